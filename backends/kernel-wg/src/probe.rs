//! Whether the running kernel has WireGuard.

use overlayd_core::contract::Result;
use overlayd_netlink::{Netns, Rtnl, link};
use rustix::io::Errno;

/// Whether the running kernel has WireGuard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelSupport {
    /// It has, built in or as a module that it could load.
    HasWireGuard,
    /// It has not; in the kernel's words.
    HasNone(String),
}

/// Asks the kernel for a device, in a network namespace of its own that ends with the question. It loads the module
/// where there is one. Needs `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`, and blocks for some milliseconds.
pub fn probe() -> Result<KernelSupport> {
    let netns = Netns::create()?;
    let rtnl = Rtnl::inside(&netns)?;
    match rtnl.run(link::NewWireGuard { name: "probe", group: 0 }.request()) {
        Ok(()) => Ok(KernelSupport::HasWireGuard),
        Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => Ok(KernelSupport::HasNone(error.to_string())),
        Err(error) => Err(error.into()),
    }
}
