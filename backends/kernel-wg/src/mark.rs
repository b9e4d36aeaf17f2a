use std::hash::Hasher;

use overlayd_core::names::InstanceId;
use overlayd_netlink::{Link, Request, device, link};

/// Kind that the kernel gives these interfaces.
const KIND: &str = "wireguard";
/// Set in every group of these, far from the small numbers that people give to groups and from those of the bridges.
const GROUP_BASE: u32 = 0x2000_0000;

/// What tells this instance's devices from all others: the alias, and until it has one, an interface group.
///
/// A link cannot be created with an alias, but in a group it can: so a process that is killed between the two requests
/// leaves nothing that its successor would not recognise. The group goes last, so whatever is still in it is unfinished.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    instance: InstanceId,
    unfinished: u32,
}

impl Mark {
    pub(crate) fn new(instance: InstanceId) -> Self {
        let mut hasher = fnv::FnvHasher::default();
        hasher.write(b"unfinished wireguard device of ");
        hasher.write(instance.as_str().as_bytes());
        let unfinished = GROUP_BASE | (hasher.finish() as u32 & (GROUP_BASE - 1));
        Self { instance, unfinished }
    }

    /// Whether the interface is a device of this instance, finished or not.
    pub(crate) fn is_on(&self, link: &Link) -> bool {
        let unfinished = link.is_kind(KIND) && link.alias.is_none() && link.group == self.unfinished;
        unfinished || device::is_ours(link, KIND, self.instance.as_str())
    }

    /// Whether a process was killed before it had marked this device of the instance.
    pub(crate) fn is_unfinished(&self, link: &Link) -> bool {
        link.group == self.unfinished
    }

    /// Creates the interface.
    pub(crate) fn creation(&self, name: &str) -> Request {
        link::NewWireGuard { name, group: self.unfinished }.request()
    }

    /// Marks the interface that was created.
    pub(crate) fn completion(&self, index: u32) -> [Request; 3] {
        let [alias, no_link_local] = device::adopt(index, self.instance.as_str());
        [alias, no_link_local, link::change(index).group(0).request()]
    }
}
