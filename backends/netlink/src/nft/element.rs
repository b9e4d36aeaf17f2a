//! Elements of sets and maps, as they are written and as the kernel lists them.
//!
//! A set of ranges has two elements for each: the first key, and the first key beyond it, which is marked as an end. A range
//! up to the last key has no end. The kernel lists them in any order, so that they are put together again by their keys.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    expression::{DATA_VALUE, LIST_ELEMENT, Verdict, value},
    set::{Set, interface_key},
};
use crate::message::{MessageBuilder, attribute_of, attributes, be32_of, nested_attribute, text_of};

/// `NFTA_SET_ELEM_LIST_TABLE` and the attributes after it.
pub(super) const TABLE: u16 = 1;
pub(super) const SET: u16 = 2;
pub(super) const ELEMENTS: u16 = 3;
/// `NFTA_SET_ELEM_KEY` and the attributes after it.
const KEY: u16 = 1;
const DATA: u16 = 2;
const FLAGS: u16 = 3;
const USER_DATA: u16 = 6;
const KEY_END: u16 = 10;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;
/// `NFTNL_UDATA_SET_ELEM_COMMENT`, and the longest comment with the zero byte at its end.
const COMMENT: u8 = 0;
const LONGEST_COMMENT: usize = 128;

/// What a map has for a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SetElementData {
    /// A value.
    Value(Vec<u8>),
    /// What becomes of the packet.
    Verdict(Verdict),
}

/// A key, or a range of keys, and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetElement {
    key: Vec<u8>,
    /// Inclusive end.
    key_end: Option<Vec<u8>>,
    data: Option<SetElementData>,
    comment: Option<String>,
}

/// What is done to elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElementChange {
    Add,
    Delete,
}

impl SetElement {
    /// A single key, as the set has keys.
    pub fn new(key: Vec<u8>) -> Self {
        Self { key, key_end: None, data: None, comment: None }
    }

    /// A range of keys, its end inclusive.
    pub fn range(first: Vec<u8>, last: Vec<u8>) -> Self {
        Self { key_end: Some(last), ..Self::new(first) }
    }

    /// A range of IPv4 addresses, its end inclusive.
    pub fn ipv4_range(first: Ipv4Addr, last: Ipv4Addr) -> Self {
        Self::range(first.octets().to_vec(), last.octets().to_vec())
    }

    /// A range of IPv6 addresses, its end inclusive.
    pub fn ipv6_range(first: Ipv6Addr, last: Ipv6Addr) -> Self {
        Self::range(first.octets().to_vec(), last.octets().to_vec())
    }

    /// With the value that the map has for it.
    #[must_use]
    pub fn value(self, value: Self) -> Self {
        Self { data: Some(SetElementData::Value(value.key)), ..self }
    }

    /// With the verdict that the map has for it.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Self {
        Self { data: Some(SetElementData::Verdict(verdict)), ..self }
    }

    /// With a comment of at most 127 bytes, which nft shows.
    #[must_use]
    pub fn with_comment(self, comment: impl Into<String>) -> Self {
        Self { comment: Some(comment.into()), ..self }
    }

    /// Its key, or the first one of its range.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The last key of its range.
    pub fn key_end(&self) -> Option<&[u8]> {
        self.key_end.as_deref()
    }

    /// What the map has for it.
    pub fn data(&self) -> Option<&SetElementData> {
        self.data.as_ref()
    }

    /// Its comment.
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// Whether the kernel would cut its comment off.
    pub(super) fn is_overlong(&self) -> bool {
        self.comment.as_ref().is_some_and(|comment| comment.len() >= LONGEST_COMMENT || comment.contains('\0'))
    }

    fn write(&self, set: &Set, change: ElementChange, list: &mut MessageBuilder) {
        let last = self.key_end.as_ref().filter(|last| **last != self.key);
        list.nest(LIST_ELEMENT, |element| {
            value(element, KEY, &self.key);
            if let (Some(last), false) = (last, set.splits_ranges()) {
                value(element, KEY_END, last);
            }
            // A deletion goes by the key alone.
            if change == ElementChange::Add {
                self.write_rest(element);
            }
        });
        let beyond = if set.splits_ranges() { successor(self.key_end.as_ref().unwrap_or(&self.key)) } else { None };
        if let Some(beyond) = beyond {
            list.nest(LIST_ELEMENT, |element| {
                value(element, KEY, &beyond);
                element.attribute_be32(FLAGS, INTERVAL_END);
            });
        }
    }

    fn write_rest(&self, element: &mut MessageBuilder) {
        if let Some(comment) = &self.comment {
            let mut stored = vec![COMMENT, comment.len() as u8 + 1];
            stored.extend_from_slice(comment.as_bytes());
            stored.push(0);
            element.attribute(USER_DATA, &stored);
        }
        match &self.data {
            None => {}
            Some(SetElementData::Value(bytes)) => value(element, DATA, bytes),
            Some(SetElementData::Verdict(verdict)) => element.nest(DATA, |data| verdict.write(data)),
        }
    }

    /// As the kernel lists it, and whether it is the end of a range.
    fn read(element: &[u8]) -> Option<(Self, bool)> {
        let bytes_of = |kind| nested_attribute(element, &[kind, DATA_VALUE]).map(<[u8]>::to_vec);
        let data = bytes_of(DATA).map(SetElementData::Value);
        let verdict = || attribute_of(element, DATA).and_then(Verdict::read).map(SetElementData::Verdict);
        let flags = attribute_of(element, FLAGS).and_then(be32_of).unwrap_or_default();
        let comment = attribute_of(element, USER_DATA).and_then(comment_of);
        let read = Self { key: bytes_of(KEY)?, key_end: bytes_of(KEY_END), data: data.or_else(verdict), comment };
        Some((read, flags & INTERVAL_END != 0))
    }
}

/// Writes elements of the set as one attribute, whose length has 16 bits.
pub(super) fn write(message: &mut MessageBuilder, set: &Set, elements: &[SetElement], change: ElementChange) {
    message.attribute_text(TABLE, &set.table);
    message.attribute_text(SET, &set.name);
    message.nest(ELEMENTS, |list| elements.iter().for_each(|element| element.write(set, change, list)));
}

/// The elements in a message of a listing, each with whether it is the end of a range.
pub(super) fn read(payload: &[u8]) -> Vec<(SetElement, bool)> {
    let Some(list) = attribute_of(payload, ELEMENTS) else { return Vec::new() };
    let elements = attributes(list).filter(|(kind, _)| *kind == LIST_ELEMENT);
    elements.filter_map(|(_, element)| SetElement::read(element)).collect()
}

/// Puts the ranges of a set that splits them together again.
pub(super) fn ranges(mut listed: Vec<(SetElement, bool)>) -> Vec<SetElement> {
    // Where one range ends and the next begins, both have the same key: the end comes first.
    listed.sort_by(|(a, a_ends), (b, b_ends)| a.key.cmp(&b.key).then(b_ends.cmp(a_ends)));
    let mut found: Vec<SetElement> = Vec::new();
    let mut open = false;
    for (element, ends) in listed {
        match (ends, found.last_mut()) {
            (false, _) => {
                let key_end = Some(vec![u8::MAX; element.key.len()]);
                found.push(SetElement { key_end, ..element });
            }
            (true, Some(last)) if open => last.key_end = predecessor(&element.key),
            // nft puts an end before the first range.
            (true, _) => {}
        }
        open = !ends;
    }
    found
}

fn comment_of(mut stored: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = stored {
        let text = rest.get(..usize::from(*length))?;
        if *kind == COMMENT {
            return Some(text_of(text));
        }
        stored = &rest[text.len()..];
    }
    None
}

/// The next key, as big-endian numbers; `None` after the last one.
fn successor(key: &[u8]) -> Option<Vec<u8>> {
    let mut next = key.to_vec();
    let at = next.iter().rposition(|byte| *byte != u8::MAX)?;
    next[at] += 1;
    next[at + 1..].fill(0);
    Some(next)
}

/// The key before, as big-endian numbers; `None` before the first one.
fn predecessor(key: &[u8]) -> Option<Vec<u8>> {
    let mut previous = key.to_vec();
    let at = previous.iter().rposition(|byte| *byte != 0)?;
    previous[at] -= 1;
    previous[at + 1..].fill(u8::MAX);
    Some(previous)
}

/// An interface name as an element of a set.
pub fn interface(name: &str) -> SetElement {
    SetElement::new(interface_key(name))
}

/// The interface name that an element of a set holds.
pub fn interface_of(element: &SetElement) -> String {
    text_of(element.key())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(set: &Set, elements: &[SetElement]) -> Vec<(SetElement, bool)> {
        let mut message = MessageBuilder::attributes();
        write(&mut message, set, elements, ElementChange::Add);
        read(message.body())
    }

    #[test]
    fn elements_are_read_as_they_are_written() {
        let value = SetElement::new(vec![1, 2]).value(SetElement::new(vec![3])).with_comment("pid:7");
        let jump = Verdict::JumpTo(super::super::ChainName::new("gate").unwrap());
        let elements = [value, SetElement::new(vec![2; 4]).verdict(jump), interface("eth0")];
        let read: Vec<SetElement> =
            listed(&Set::new("table", "set"), &elements).into_iter().map(|(element, _)| element).collect();
        assert_eq!(read, elements);
        assert_eq!(interface_of(&read[2]), "eth0");
    }

    #[test]
    fn ranges_are_put_together_again() {
        let set = Set::new("table", "set").interval();
        let ranges_of = |elements: &[SetElement]| {
            let mut listed = listed(&set, elements);
            listed.reverse();
            ranges(listed)
        };
        let range = |first: [u8; 4], last: [u8; 4]| SetElement::ipv4_range(first.into(), last.into());
        let adjacent = [range([10, 0, 0, 0], [10, 0, 0, 255]), range([10, 0, 1, 0], [10, 0, 1, 0])];
        assert_eq!(ranges_of(&adjacent), adjacent);
        let to_the_top = [range([10, 0, 0, 0], [255; 4])];
        assert_eq!(listed(&set, &to_the_top).len(), 1);
        assert_eq!(ranges_of(&to_the_top), to_the_top);
        assert_eq!(ranges(vec![(SetElement::new(vec![0; 4]), true)]), []);
    }

    #[test]
    fn keys_are_counted_across_bytes() {
        assert_eq!(successor(&[1, 255]), Some(vec![2, 0]));
        assert_eq!(predecessor(&[2, 0]), Some(vec![1, 255]));
        assert_eq!((successor(&[255, 255]), predecessor(&[0, 0])), (None, None));
    }
}
