//! How a caller names a container.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::unset;

// A daemon never sends a handle. So an added variant meets daemons only, and an older one refuses the request.
/// How a caller names the container to attach or detach.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "platform", rename_all = "snake_case")]
pub enum AttachHandle {
    /// The network namespace of a process.
    LinuxPid {
        /// The process, in the daemon's PID namespace.
        pid: u32,
    },
    /// A Windows compute system.
    WindowsContainer {
        /// On attach the container's id; on detach the namespace GUID that attach returned.
        container_id: String,
        /// The address to give it, when the caller has chosen one.
        #[serde(default, skip_serializing_if = "unset")]
        ip: Option<IpAddr>,
    },
    /// A virtual machine that runs a WireGuard device of its own.
    GuestManaged {
        /// The caller's id for it.
        id: String,
    },
    /// A process in the host's network that gets an overlay address of its own.
    HostShared {
        /// The caller's id for it.
        id: String,
    },
    /// *Addition.* A network namespace by path, for callers that have no PID.
    LinuxNetns {
        /// The caller's id for the container; the key of the attachment.
        id: String,
        /// A bind mount of the namespace, or `/proc/…/ns/net`.
        path: String,
    },
}

impl AttachHandle {
    /// A container by any process in it.
    pub fn process(pid: u32) -> Self {
        Self::LinuxPid { pid }
    }

    /// A container by the path of its network namespace; `id` is the caller's own.
    pub fn namespace(id: impl Into<String>, path: impl Into<String>) -> Self {
        Self::LinuxNetns { id: id.into(), path: path.into() }
    }

    /// A virtual machine that runs WireGuard itself; `id` is the caller's own.
    pub fn guest(id: impl Into<String>) -> Self {
        Self::GuestManaged { id: id.into() }
    }

    /// A process in the host's network; `id` is the caller's own.
    pub fn host_process(id: impl Into<String>) -> Self {
        Self::HostShared { id: id.into() }
    }
}
