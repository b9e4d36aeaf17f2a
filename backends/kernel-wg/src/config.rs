//! The settings of the backend.

use overlayd_core::names::InstanceId;
use overlayd_netlink::{NetworkManagers, OwnChanges};

/// How a [`crate::KernelWg`] works.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whose devices these are.
    pub instance: InstanceId,
    /// Network managers to keep off our links; `None` leaves them alone.
    pub managers: Option<NetworkManagers>,
    /// Firewall mark of the encrypted packets, for policy routing, 0 for none; `None` leaves what is there.
    pub fwmark: Option<u32>,
    /// The record of what this process changes, which all backends of the host share.
    pub own_changes: OwnChanges,
}

impl Config {
    /// The usual settings.
    pub fn new(instance: InstanceId) -> Self {
        Self { instance, managers: None, fwmark: None, own_changes: OwnChanges::default() }
    }
}
