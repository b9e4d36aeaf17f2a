//! How a device of this instance is told from all other links.

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
/// leaves nothing that its successor would not recognise. The group goes last, so every device that is still in it is unfinished.
/// A second group says the same, and that the device may have switched a setting of the host off by coming up.
#[derive(Debug, Clone)]
pub(crate) struct DeviceMark {
    instance: InstanceId,
    unfinished: u32,
    switching: u32,
}

impl DeviceMark {
    pub(crate) fn new(instance: InstanceId) -> Self {
        let mut hasher = fnv::FnvHasher::default();
        hasher.write(b"unfinished wireguard device of ");
        hasher.write(instance.as_str().as_bytes());
        let unfinished = GROUP_BASE | (hasher.finish() as u32 & (GROUP_BASE - 1));
        Self { instance, unfinished, switching: unfinished ^ 1 }
    }

    /// Whether the interface is a device of this instance, finished or not.
    pub(crate) fn is_on(&self, link: &Link) -> bool {
        let unfinished = link.is_kind(KIND) && link.alias.is_none() && self.is_unfinished(link);
        unfinished || device::is_ours(link, KIND, self.instance.as_str())
    }

    /// Whether a process was killed before it had finished this device of the instance.
    pub(crate) fn is_unfinished(&self, link: &Link) -> bool {
        [self.unfinished, self.switching].contains(&link.group)
    }

    /// Whether a process was killed before it had put the setting back that this device of the instance switches off.
    pub(crate) fn switches_redirects_off(&self, link: &Link) -> bool {
        link.group == self.switching
    }

    /// Creates the interface.
    pub(crate) fn creation(&self, name: &str) -> Request {
        link::NewWireGuard { name, group: self.unfinished }.request()
    }

    /// Marks the interface that was created. It leaves its group when it is up.
    pub(crate) fn completion(&self, index: u32) -> [Request; 2] {
        device::adopt(index, self.instance.as_str())
    }

    /// Notes that the interface is about to switch the setting off.
    pub(crate) fn switching_redirects_off(&self, index: u32) -> Request {
        link::change(index).group(self.switching).request()
    }

    /// The group of the interface once it is finished: that of all interfaces, or what an administrator chose for it.
    pub(crate) fn lasting_group(&self, link: &Link) -> u32 {
        if self.is_unfinished(link) { 0 } else { link.group }
    }
}
