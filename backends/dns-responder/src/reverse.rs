//! Reverse names: `in-addr.arpa` (RFC 1035, section 3.5) and `ip6.arpa` (RFC 3596, section 2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::name::labels;

/// What a reverse name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReverseName {
    /// These addresses: one for a complete name, a range for the beginning of one.
    Range(IpNet),
    /// Nothing: it lies below the complete name of this address.
    Below(IpAddr),
}

impl ReverseName {
    /// The addresses that the name, or the one it lies below, stands for.
    pub(crate) fn range(self) -> IpNet {
        match self {
            Self::Range(range) => range,
            Self::Below(ip) => IpNet::from(ip),
        }
    }
}

/// Reads the key of a name as a reverse name; `None` for all other names.
pub(crate) fn parse(key: &[u8]) -> Option<ReverseName> {
    let mut rest = labels(key);
    if rest.next()? != b"arpa" {
        return None;
    }
    let (range, complete) = match rest.next()? {
        b"in-addr" => (v4(rest.by_ref().take(4))?, 32),
        b"ip6" => (v6(rest.by_ref().take(32))?, 128),
        _ => return None,
    };
    match rest.next() {
        Some(_) if range.prefix_len() == complete => Some(ReverseName::Below(range.addr())),
        _ => Some(ReverseName::Range(range)),
    }
}

/// How many labels a range's own reverse name has, `arpa` included: the range cut into parts that end at a label.
pub(crate) fn apex_labels(range: &IpNet) -> usize {
    let bits_per_label = if range.addr().is_ipv4() { 8 } else { 4 };
    2 + usize::from(range.prefix_len().div_ceil(bits_per_label))
}

fn v4<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Option<IpNet> {
    let mut octets = [0; 4];
    let mut bits = 0;
    for (octet, label) in octets.iter_mut().zip(labels) {
        *octet = decimal(label)?;
        bits += 8;
    }
    Ipv4Net::new(Ipv4Addr::from(octets), bits).ok().map(IpNet::V4)
}

fn v6<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Option<IpNet> {
    let mut address = 0_u128;
    let mut bits = 0;
    for label in labels {
        let [digit] = label else { return None };
        address |= u128::from(char::from(*digit).to_digit(16)?) << (124 - bits);
        bits += 4;
    }
    Ipv6Net::new(Ipv6Addr::from(address), bits as u8).ok().map(IpNet::V6)
}

/// A number as people write it: no leading zero, at most 255.
fn decimal(label: &[u8]) -> Option<u8> {
    let canonical = label.iter().all(u8::is_ascii_digit) && (label.len() == 1 || label.first() != Some(&b'0'));
    std::str::from_utf8(label).ok().filter(|_| canonical)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use domain::base::Name;
    use proptest::prelude::*;

    use super::*;
    use crate::name::{KeyBuf, NameKey};

    fn parsed(name: &str) -> Option<ReverseName> {
        parse(&NameKey::parse(name).unwrap())
    }

    #[test]
    fn a_reverse_name_is_an_address_or_a_range() {
        let range = |text: &str| Some(ReverseName::Range(text.parse().unwrap()));
        assert_eq!(parsed("2.1.77.10.in-addr.arpa"), range("10.77.1.2/32"));
        assert_eq!(parsed("77.10.in-addr.arpa"), range("10.77.0.0/16"));
        assert_eq!(parsed("in-addr.arpa"), range("0.0.0.0/0"));
        assert_eq!(parsed("d.f.ip6.arpa"), range("fd00::/8"));
        assert_eq!(parsed("x.2.1.77.10.in-addr.arpa"), Some(ReverseName::Below("10.77.1.2".parse().unwrap())));
        for other in ["arpa", "home.arpa", "256.in-addr.arpa", "01.10.in-addr.arpa", "ab.ip6.arpa", "+1.in-addr.arpa"] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }

    #[test]
    fn a_range_begins_where_a_label_ends() {
        for (range, labels) in [("10.77.0.0/16", 4), ("10.77.1.0/26", 6), ("0.0.0.0/0", 2), ("fd77::/18", 7)] {
            assert_eq!(apex_labels(&range.parse().unwrap()), labels, "{range}");
        }
    }

    proptest! {
        #[test]
        fn every_address_is_found_by_its_reverse_name(ip: IpAddr) {
            let name = Name::<Vec<u8>>::reverse_from_addr(ip).unwrap();
            prop_assert_eq!(parse(&KeyBuf::of(&name)), Some(ReverseName::Range(IpNet::from(ip))));
        }
    }
}
