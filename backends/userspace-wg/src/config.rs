use std::path::PathBuf;

use overlayd_core::{contract::DriftSignal, names::InstanceId};
use overlayd_netlink::{NetworkManagers, OwnChanges};

use crate::{io::KernelOffloads, noise::HandshakeLimits};

/// What happens to the interface when this process ends without removing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AtExit {
    /// The kernel removes it, with its addresses and routes.
    #[default]
    Vanish,
    /// It stays, with its addresses and routes, and the next process of this instance takes it over.
    Persist,
}

/// How a [`crate::UserspaceWg`] works.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whose devices these are.
    pub instance: InstanceId,
    /// Directory of the control sockets, one `<device>.sock` each.
    pub uapi_dir: PathBuf,
    /// What becomes of devices when the process ends.
    pub at_exit: AtExit,
    /// Network managers to keep off our links; `None` leaves them alone.
    pub managers: Option<NetworkManagers>,
    /// Firewall mark of the encrypted packets, for policy routing, 0 for none; `None` leaves what is there.
    pub fwmark: Option<u32>,
    /// Handshakes per second that are answered.
    pub limits: HandshakeLimits,
    /// What may be used of the kernel's offloads.
    pub offloads: KernelOffloads,
    /// Told when a program changes a device through its control socket.
    pub drift: DriftSignal,
    /// The record of what this process changes, which all backends of the host share.
    pub own_changes: OwnChanges,
}

impl Config {
    /// Where `wg(8)` looks for control sockets.
    pub const WG_DIR: &str = "/var/run/wireguard";

    /// The usual settings.
    pub fn new(instance: InstanceId) -> Self {
        Self {
            instance,
            uapi_dir: Self::WG_DIR.into(),
            at_exit: AtExit::default(),
            // Tests and tools have no network manager to keep off.
            managers: None,
            fwmark: None,
            limits: HandshakeLimits::default(),
            offloads: KernelOffloads::default(),
            drift: DriftSignal::default(),
            own_changes: OwnChanges::default(),
        }
    }
}
