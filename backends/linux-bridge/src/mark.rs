//! What tells the host objects of this daemon from everybody else's.

use std::{hash::Hasher, net::Ipv6Addr};

use ipnet::IpNet;
use overlayd_core::{contract::AttachmentId, names::InstanceId};
use overlayd_netlink::{Link, link::Mac};

use crate::interfaces::{LegKind, host_end};

/// Most bytes of an interface's alias (`IFALIASZ` less its terminator).
const MAX_ALIAS: usize = 255;

/// The marks of one instance: the alias that each of its links carries, and three interface groups.
#[derive(Debug, Clone)]
pub(crate) struct InstanceMarks {
    instance: InstanceId,
    live: u32,
}

/// What the alias of a link of this instance says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkMark {
    /// A network's bridge.
    Network,
    /// The host's end of a container interface.
    Attachment(LinkOwner),
}

/// Whose container interface it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkOwner {
    pub(crate) id: AttachmentId,
    /// When the process started, in clock ticks since boot, for a target that is a process.
    pub(crate) start: Option<u64>,
    /// Inode number of the container's network namespace.
    pub(crate) netns: u64,
}

impl InstanceMarks {
    pub(crate) fn new(instance: InstanceId) -> Self {
        let mut hasher = fnv::FnvHasher::default();
        hasher.write(instance.as_str().as_bytes());
        // Far from the small numbers that people give to groups; the two lowest bits tell our groups apart.
        let live = 0x4000_0000 | ((hasher.finish() as u32) & 0x3fff_fffc);
        Self { instance, live }
    }

    /// Name of the instance's nftables table.
    pub(crate) fn table(&self) -> String {
        format!("overlayd_{}", self.instance)
    }

    /// Group of container interfaces in service. It is set in the request that creates one, so that even a half-made
    /// interface is known.
    pub(crate) fn live_group(&self) -> u32 {
        self.live
    }

    /// Group of container interfaces that are out of service and wait for deletion.
    pub(crate) fn reaped_group(&self) -> u32 {
        self.live | 1
    }

    /// Group of bridges, set in the request that creates one.
    pub(crate) fn network_group(&self) -> u32 {
        self.live | 2
    }

    /// Whether the link carries the instance's mark, or is being made by it: a bridge, a container interface or a device.
    pub(crate) fn is_ours(&self, link: &Link) -> bool {
        let rest = link.alias.as_deref().and_then(|alias| alias.strip_prefix("overlayd:"));
        let rest = rest.and_then(|rest| rest.strip_prefix(self.instance.as_str()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
            || [self.live_group(), self.network_group()].contains(&link.group)
    }

    /// Whether it is the container interface whose place is on a bridge.
    pub(crate) fn is_bridge_leg(&self, link: &Link) -> bool {
        let Some(LinkMark::Attachment(owner)) = self.read(link) else { return false };
        host_end(&owner.id, LegKind::Service).is_ok_and(|name| name.as_str() == link.name)
    }

    /// Whether the link is a network's bridge, even one whose making was cut off before it got its alias.
    pub(crate) fn is_network(&self, link: &Link) -> bool {
        let half_made = link.group == self.network_group() && link.alias.is_none();
        link.is_kind("bridge") && (half_made || self.read(link) == Some(LinkMark::Network))
    }

    /// Alias of a network's bridge.
    pub(crate) fn network(&self) -> String {
        format!("overlayd:{}:network", self.instance)
    }

    /// Alias of a container interface; `None` where the id is too long for one.
    pub(crate) fn attachment(&self, owner: &LinkOwner) -> Option<String> {
        let LinkOwner { id, start, netns } = owner;
        let start = start.unwrap_or(0);
        let alias = match id {
            AttachmentId::Process(pid) => format!("overlayd:{}:pid:{start}:{netns}:{pid}", self.instance),
            AttachmentId::Namespace(name) => format!("overlayd:{}:ns:{start}:{netns}:{name}", self.instance),
            _ => return None,
        };
        (alias.len() <= MAX_ALIAS).then_some(alias)
    }

    /// What the link is to us; `None` for what is not ours.
    pub(crate) fn read(&self, link: &Link) -> Option<LinkMark> {
        let rest = link.alias.as_deref()?.strip_prefix("overlayd:")?;
        let rest = rest.strip_prefix(self.instance.as_str())?.strip_prefix(':')?;
        if rest == "network" {
            return Some(LinkMark::Network);
        }
        let mut fields = rest.splitn(4, ':');
        let (kind, start, netns, name) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let id = match kind {
            "pid" => AttachmentId::Process(name.parse().ok()?),
            "ns" => AttachmentId::Namespace(name.to_owned()),
            _ => return None,
        };
        let start = Some(start.parse().ok()?).filter(|&ticks| ticks != 0);
        Some(LinkMark::Attachment(LinkOwner { id, start, netns: netns.parse().ok()? }))
    }

    /// Whether it is a container interface of this instance whose making was cut off before it got its alias.
    pub(crate) fn is_half_made(&self, link: &Link) -> bool {
        link.group == self.live && link.alias.is_none() && link.is_kind("veth")
    }

    /// Whether it is a container interface of this instance that only waits for deletion.
    pub(crate) fn is_reaped(&self, link: &Link) -> bool {
        link.group == self.reaped_group()
    }

    /// The hardware address of a network's bridge, the same in every run.
    pub(crate) fn bridge_mac(&self, name: &str) -> Mac {
        derived_mac(&[self.instance.as_str().as_bytes(), name.as_bytes()])
    }

    /// Hardware addresses of a container interface, its own and the host end's. They derive from its address, so that
    /// a neighbour cache that remembers that address of an earlier container still leads to the right one.
    pub(crate) fn leg_macs(&self, address: IpNet) -> (Mac, Mac) {
        let address = address.addr().to_string();
        let inside = derived_mac(&[b"inside", address.as_bytes()]);
        let outside = derived_mac(&[b"outside", self.instance.as_str().as_bytes(), address.as_bytes()]);
        (inside, outside)
    }
}

/// The link-local address that derives from a hardware address (RFC 4291, appendix A).
pub(crate) fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let words = [[a ^ 2, b], [c, 0xff], [0xfe, d], [e, f]].map(u16::from_be_bytes);
    Ipv6Addr::new(0xfe80, 0, 0, 0, words[0], words[1], words[2], words[3])
}

/// A locally administered unicast address from these parts.
fn derived_mac(parts: &[&[u8]]) -> Mac {
    let mut hasher = fnv::FnvHasher::default();
    for part in parts {
        hasher.write(part);
        hasher.write_u8(0xff);
    }
    let [a, b, c, d, e, ..] = hasher.finish().to_be_bytes();
    [0x02, a, b, c, d, e]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(data_dir: &str) -> InstanceMarks {
        InstanceMarks::new(InstanceId::of_data_dir(data_dir.as_ref()))
    }

    fn with_alias(alias: String) -> Link {
        Link { alias: Some(alias), ..Link::default() }
    }

    #[test]
    fn an_alias_says_whose_interface_it_is() {
        let marks = marks("/a");
        for id in [AttachmentId::Process(42), AttachmentId::Namespace("pod:1/x".into())] {
            for start in [None, Some(77)] {
                let owner = LinkOwner { id: id.clone(), start, netns: 4_026_532_000 };
                let link = with_alias(marks.attachment(&owner).unwrap());
                assert_eq!(marks.read(&link), Some(LinkMark::Attachment(owner)));
            }
        }
        assert_eq!(marks.read(&with_alias(marks.network())), Some(LinkMark::Network));
    }

    #[test]
    fn what_another_instance_or_a_person_wrote_is_not_ours() {
        let (ours, theirs) = (marks("/a"), marks("/b"));
        assert_eq!(ours.read(&with_alias(theirs.network())), None);
        assert_eq!(ours.read(&with_alias("uplink to rack 4".into())), None);
        assert_eq!(ours.read(&with_alias("overlayd:".into())), None);
        assert_eq!(ours.read(&Link::default()), None);
        assert_ne!(ours.live_group(), theirs.live_group());
        assert_ne!(ours.live_group(), ours.reaped_group());
    }

    #[test]
    fn an_id_that_fits_no_alias_has_none() {
        let owner = LinkOwner { id: AttachmentId::Namespace("x".repeat(250)), start: None, netns: 1 };
        assert_eq!(marks("/a").attachment(&owner), None);
    }

    #[test]
    fn hardware_addresses_are_local_and_the_same_every_time() {
        let marks = marks("/a");
        let address: IpNet = "10.1.2.3/24".parse().unwrap();
        let (inside, outside) = marks.leg_macs(address);
        assert_eq!((inside, outside), marks.leg_macs("10.1.2.3/26".parse().unwrap()));
        assert_ne!(inside, outside);
        assert!([inside, outside, marks.bridge_mac("br")].iter().all(|mac| mac[0] & 0b11 == 0b10));
    }
}
