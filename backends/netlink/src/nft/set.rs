//! Sets and maps, and what their keys and values are.

use super::{expression::LIST_ELEMENT, numbers::Family};
use crate::message::MessageBuilder;

/// `NFTA_SET_TABLE` and the attributes after it.
pub(super) const TABLE: u16 = 1;
pub(super) const NAME: u16 = 2;
pub(super) const FLAGS: u16 = 3;
const KEY_TYPE: u16 = 4;
const KEY_LENGTH: u16 = 5;
const DATA_TYPE: u16 = 6;
const DATA_LENGTH: u16 = 7;
const DESCRIPTION: u16 = 9;
const ID: u16 = 10;
const USER_DATA: u16 = 13;
/// `NFTA_SET_DESC_CONCAT` and `NFTA_SET_FIELD_LEN`.
const FIELDS: u16 = 2;
const FIELD_LENGTH: u16 = 1;
/// Flags of a set (`enum nft_set_flags`).
pub(super) const INTERVAL: u32 = 0x04;
const MAP: u32 = 0x08;
pub(super) const CONCAT: u32 = 0x80;
/// `NFT_DATA_VERDICT`.
const VERDICT: u32 = 0xffff_ff00;

/// The key type of sets of interface names, as nft itself writes it (datatype 41, 16 bytes).
pub const INTERFACE_NAME: SetKeyType = SetKeyType::InterfaceName;

/// What a key or a value is. The kernel knows lengths alone; the numbers of the types are nft's, for its listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetKeyType {
    /// An IPv4 address.
    Ipv4Addr,
    /// An IPv6 address.
    Ipv6Addr,
    /// A hardware address.
    EtherAddr,
    /// A protocol of the transport layer.
    InetProto,
    /// A port.
    InetService,
    /// The name of an interface.
    InterfaceName,
    /// Several in a row, each padded to four bytes.
    Concat(Vec<SetKeyType>),
}

impl SetKeyType {
    /// nft's number of the type; those of several take six bits each.
    fn number(&self) -> u32 {
        match self {
            Self::Ipv4Addr => 7,
            Self::Ipv6Addr => 8,
            Self::EtherAddr => 9,
            Self::InetProto => 12,
            Self::InetService => 13,
            Self::InterfaceName => 41,
            Self::Concat(parts) => parts.iter().fold(0, |number, part| number << 6 | part.number()),
        }
    }

    /// In bytes.
    fn length(&self) -> u32 {
        match self {
            Self::Ipv4Addr => 4,
            Self::Ipv6Addr | Self::InterfaceName => 16,
            Self::EtherAddr => 6,
            Self::InetProto => 1,
            Self::InetService => 2,
            Self::Concat(parts) => parts.iter().map(|part| part.length().next_multiple_of(4)).sum(),
        }
    }
}

/// What a map has for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetDataType {
    /// What becomes of the packet.
    Verdict,
    /// A value.
    Value(SetKeyType),
}

/// A set or map of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a set does nothing until it is part of a change"]
pub struct Set {
    pub(super) family: Family,
    pub(super) table: String,
    pub(super) name: String,
    key: SetKeyType,
    data: Option<SetDataType>,
    ranges: bool,
}

impl Set {
    /// A set of IPv4 addresses.
    pub fn new(table: &str, name: &str) -> Self {
        let (table, name) = (table.to_owned(), name.to_owned());
        Self { family: Family::Inet, table, name, key: SetKeyType::Ipv4Addr, data: None, ranges: false }
    }

    /// Family of the table.
    pub fn family(self, family: Family) -> Self {
        Self { family, ..self }
    }

    /// What its keys are.
    pub fn key_type(self, key: SetKeyType) -> Self {
        Self { key, ..self }
    }

    /// Its keys are ranges.
    pub fn interval(self) -> Self {
        Self { ranges: true, ..self }
    }

    /// Makes it a map.
    pub fn map(self, data: SetDataType) -> Self {
        Self { data: Some(data), ..self }
    }

    /// Makes it a map to verdicts.
    pub fn vmap(self) -> Self {
        self.map(SetDataType::Verdict)
    }

    /// Whether each of its ranges is two elements: a first key, and the first one beyond. Ranges of several parts are one
    /// element, because each part has a range of its own.
    pub(super) fn splits_ranges(&self) -> bool {
        self.ranges && self.parts().is_none()
    }

    fn parts(&self) -> Option<&[SetKeyType]> {
        match &self.key {
            SetKeyType::Concat(parts) if parts.len() > 1 => Some(parts),
            _ => None,
        }
    }

    /// `id` tells it from other sets of the same change.
    pub(super) fn write(&self, message: &mut MessageBuilder, id: u32) {
        let by_part = self.parts().filter(|_| self.ranges);
        let flags = if self.ranges { INTERVAL } else { 0 }
            | if self.data.is_some() { MAP } else { 0 }
            | if by_part.is_some() { CONCAT } else { 0 };
        self.write_key(message);
        message.attribute_be32(FLAGS, flags);
        match &self.data {
            None => {}
            // A verdict has the length that it has.
            Some(SetDataType::Verdict) => message.attribute_be32(DATA_TYPE, VERDICT),
            Some(SetDataType::Value(value)) => {
                message.attribute_be32(DATA_TYPE, value.number());
                message.attribute_be32(DATA_LENGTH, value.length());
            }
        }
        if let Some(parts) = by_part {
            message.nest(DESCRIPTION, |description| description.nest(FIELDS, |fields| write_fields(fields, parts)));
        }
        message.attribute_be32(ID, id);
    }

    /// As [`Set::write`], with the order of the key's bytes, as nft stores it for sets of numbers and of interface names.
    /// Without it nft shows names as empty, which makes a saved and restored ruleset another one.
    pub(super) fn write_with_byte_order(&self, message: &mut MessageBuilder, id: u32) {
        /// `NFTNL_UDATA_SET_KEYBYTEORDER`, its length, and nft's number for the host's order.
        const HOST_ORDER: [u8; 6] = {
            let [a, b, c, d] = 1u32.to_ne_bytes();
            [0, 4, a, b, c, d]
        };
        self.write_key(message);
        message.attribute_be32(ID, id);
        message.attribute(USER_DATA, &HOST_ORDER);
    }

    fn write_key(&self, message: &mut MessageBuilder) {
        message.attribute_text(TABLE, &self.table);
        message.attribute_text(NAME, &self.name);
        message.attribute_be32(KEY_TYPE, self.key.number());
        message.attribute_be32(KEY_LENGTH, self.key.length());
    }
}

fn write_fields(fields: &mut MessageBuilder, parts: &[SetKeyType]) {
    for part in parts {
        fields.nest(LIST_ELEMENT, |field| field.attribute_be32(FIELD_LENGTH, part.length()));
    }
}

/// An interface's name as the kernel compares it: 16 bytes, with zeros at the end.
pub(super) fn interface_key(name: &str) -> Vec<u8> {
    let mut key = vec![0; 16];
    let length = name.len().min(15);
    key[..length].copy_from_slice(&name.as_bytes()[..length]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_key_are_padded_and_numbered_from_the_first() {
        let key = SetKeyType::Concat(vec![SetKeyType::InterfaceName, SetKeyType::EtherAddr]);
        assert_eq!((key.number(), key.length()), (41 << 6 | 9, 16 + 8));
    }

    #[test]
    fn ranges_of_one_part_are_split() {
        let set = |key| Set::new("table", "set").key_type(key).interval();
        assert!(set(SetKeyType::Ipv6Addr).splits_ranges());
        let parts = vec![SetKeyType::Ipv4Addr, SetKeyType::InetService];
        assert!(!set(SetKeyType::Concat(parts)).splits_ranges());
        assert!(!Set::new("table", "set").splits_ranges());
    }

    #[test]
    fn a_name_fills_its_field() {
        assert_eq!(interface_key("lo"), *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(interface_key(&"x".repeat(20)).last(), Some(&0));
    }
}
