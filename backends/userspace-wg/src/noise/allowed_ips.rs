use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use super::peer_id::PeerId;

/// Which peer holds which range; the longest prefix wins (cryptokey routing, whitepaper, section 2).
#[derive(Default)]
pub(crate) struct AllowedIps {
    v4: PrefixMap<Ipv4Net, PeerId>,
    v6: PrefixMap<Ipv6Net, PeerId>,
}

impl AllowedIps {
    /// Gives `range` to `peer`; returns who held it before. Host bits are ignored.
    pub(crate) fn insert(&mut self, range: IpNet, peer: PeerId) -> Option<PeerId> {
        match range {
            // Truncated, as `wg set` takes 10.0.0.1/24 for 10.0.0.0/24, and the trie compares whole keys.
            IpNet::V4(net) => self.v4.insert(net.trunc(), peer),
            IpNet::V6(net) => self.v6.insert(net.trunc(), peer),
        }
    }

    /// Takes exactly this range from the peer that holds it.
    pub(crate) fn remove(&mut self, range: IpNet) {
        match range {
            IpNet::V4(net) => self.v4.remove(&net.trunc()),
            IpNet::V6(net) => self.v6.remove(&net.trunc()),
        };
    }

    /// The peer that packets to `ip` go to, and the only one that packets from `ip` may come from.
    pub(crate) fn holder(&self, ip: IpAddr) -> Option<PeerId> {
        match ip {
            IpAddr::V4(ip) => self.v4.get_lpm(&Ipv4Net::from(ip)).map(|(_, peer)| *peer),
            IpAddr::V6(ip) => self.v6.get_lpm(&Ipv6Net::from(ip)).map(|(_, peer)| *peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn range() -> impl Strategy<Value = IpNet> {
        let v4 =
            (0u32..=0xfff, 20u8..=32).prop_map(|(bits, len)| Ipv4Net::new((bits << 4).into(), len).unwrap().into());
        let v6 = (0u128..=0xfff, 112u8..=128).prop_map(|(bits, len)| Ipv6Net::new(bits.into(), len).unwrap().into());
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_a_search_through_all_ranges(
            steps in proptest::collection::vec((range(), 0u32..5), 0..60),
            asked in range(),
        ) {
            let mut trie = AllowedIps::default();
            let mut list = BTreeMap::<IpNet, PeerId>::new();
            for (range, peer) in steps {
                if peer == 0 {
                    trie.remove(range);
                    list.remove(&range.trunc());
                } else {
                    trie.insert(range, PeerId(peer));
                    list.insert(range.trunc(), PeerId(peer));
                }
            }
            let longest = list.iter().filter(|(range, _)| range.contains(&asked.addr())).max_by_key(|(range, _)| range.prefix_len());
            prop_assert_eq!(trie.holder(asked.addr()), longest.map(|(_, peer)| *peer));
        }
    }
}
