//! Names as keys: lowercase, root first, each label led by its length. So a name lies in a zone exactly when its key
//! starts with the zone's key, and a sorted set keeps every subtree together.

use std::{
    borrow::Borrow,
    fmt::{self, Write as _},
    ops::Deref,
    sync::Arc,
};

use domain::base::{
    Name,
    name::{Label, ToLabelIter},
};

/// Longest key in bytes: a name's 255 on the wire (RFC 1035, section 2.3.4) less the root label.
const MAX_KEY: usize = 254;
/// Longest label in bytes.
const MAX_LABEL: usize = 63;

/// A name as a key, owned.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NameKey(Arc<[u8]>);

/// Why a text is no name of a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a lowercase name without final dot")]
pub(crate) struct InvalidName(String);

impl NameKey {
    /// Reads a name of a plan: lowercase, absolute, without the final dot.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidName> {
        if text.len() >= MAX_KEY || !text.split('.').all(is_plan_label) {
            return Err(InvalidName(text.to_owned()));
        }
        let mut key = KeyBuf::root();
        text.rsplit('.').for_each(|label| key.push(label.as_bytes()));
        Ok(key.to_key())
    }

    /// The root, which sorts before every other name.
    pub(crate) fn root() -> Self {
        Self(Arc::new([]))
    }

    /// The key again, owned.
    pub(crate) fn from_slice(key: &[u8]) -> Self {
        Self(key.into())
    }

    /// The name with one more label in front.
    pub(crate) fn child(&self, label: &str) -> Self {
        Self(self.0.iter().copied().chain([label.len() as u8]).chain(label.bytes()).collect())
    }
}

impl Deref for NameKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for NameKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<_> = labels(&self.0).collect();
        for (at, label) in labels.iter().rev().enumerate() {
            if at > 0 {
                f.write_char('.')?;
            }
            f.write_str(&String::from_utf8_lossy(label))?;
        }
        Ok(())
    }
}

/// The key of a name in a query, on the stack.
pub(crate) struct KeyBuf {
    bytes: [u8; MAX_KEY],
    len: usize,
}

impl KeyBuf {
    fn root() -> Self {
        Self { bytes: [0; MAX_KEY], len: 0 }
    }

    /// The key of a parsed name; the library keeps names within 255 bytes.
    pub(crate) fn of<N: ToLabelIter>(name: &N) -> Self {
        let mut key = Self::root();
        name.iter_labels().rev().skip_while(|label| label.is_root()).for_each(|label| key.push(label.as_slice()));
        key
    }

    pub(crate) fn to_key(&self) -> NameKey {
        NameKey::from_slice(self)
    }

    fn push(&mut self, label: &[u8]) {
        let end = self.len + 1 + label.len();
        self.bytes[self.len] = label.len() as u8;
        self.bytes[self.len + 1..end].copy_from_slice(label);
        self.bytes[self.len + 1..end].make_ascii_lowercase();
        self.len = end;
    }
}

impl Deref for KeyBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Whether a label of a plan is lowercase and printable. A backslash begins an escape in the text form of names.
fn is_plan_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\' && !byte.is_ascii_uppercase())
}

/// The labels of a key, root first.
pub(crate) fn labels(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = key;
    std::iter::from_fn(move || {
        let (len, tail) = rest.split_first()?;
        let (label, tail) = tail.split_at(usize::from(*len));
        rest = tail;
        Some(label)
    })
}

/// The name and its ancestors but the root, shortest first.
pub(crate) fn ancestors(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut end = 0;
    labels(key).map(move |label| {
        end += 1 + label.len();
        &key[..end]
    })
}

/// The name of a key, for messages.
pub(crate) fn to_name(key: &[u8]) -> Name<Vec<u8>> {
    let parts: Vec<&[u8]> = labels(key).collect();
    let mut wire = Vec::with_capacity(key.len() + 1);
    for label in parts.into_iter().rev() {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label);
    }
    wire.push(Label::root().len() as u8);
    Name::from_octets(wire).unwrap_or_else(|_| Name::root_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_of_a_plan_is_lowercase_and_absolute() {
        assert_eq!(format!("{:?}", NameKey::parse("web-1._tcp.atlas.local").unwrap()), "web-1._tcp.atlas.local");
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        assert!(NameKey::parse(&long).is_ok());
        for bad in ["", ".", "a.", ".a", "a..b", "A.b", "a b", "ü", &"a".repeat(64), &format!("{long}e")] {
            assert!(NameKey::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_name_survives_the_way_through_its_key(text in "[a-z0-9_-]{1,20}(\\.[a-z0-9_-]{1,20}){0,6}") {
            let key = NameKey::parse(&text).unwrap();
            let name = to_name(&key);
            prop_assert_eq!(name.to_string(), text.clone());
            prop_assert_eq!(&KeyBuf::of(&name)[..], &key[..]);
            let upper: Name<Vec<u8>> = text.to_ascii_uppercase().parse().unwrap();
            prop_assert_eq!(&KeyBuf::of(&upper)[..], &key[..]);
            prop_assert_eq!(ancestors(&key).count(), text.split('.').count());
        }

        #[test]
        fn a_name_is_in_a_zone_by_whole_labels(
            name in "[a-c]{1,2}(\\.[a-c]{1,2}){0,4}",
            zone in "[a-c]{1,2}(\\.[a-c]{1,2}){0,2}",
        ) {
            let inside = name == zone || name.ends_with(&format!(".{zone}"));
            let by_key = NameKey::parse(&name).unwrap().starts_with(&NameKey::parse(&zone).unwrap());
            prop_assert_eq!(inside, by_key);
        }
    }
}
