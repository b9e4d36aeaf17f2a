//! Which container a request means.

use std::path::PathBuf;

use crate::{
    contract::{AttachmentId, Target},
    protocol::AttachHandle,
};

/// The container that a handle of the wire means: how its attachment is called, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestedContainer {
    /// A container in a namespace of its own, to be plugged in.
    Namespaced {
        /// Its attachment.
        id: AttachmentId,
        /// Where it is.
        target: Target,
    },
    /// A VM that runs its own WireGuard device. Where it is follows from the address that it is leased.
    Guest(String),
    /// A process in the host's own network namespace. Where it is follows from the address that it is leased.
    HostProcess(String),
}

impl RequestedContainer {
    /// Its attachment.
    pub fn id(&self) -> AttachmentId {
        match self {
            Self::Namespaced { id, .. } => id.clone(),
            Self::Guest(id) => AttachmentId::Guest(id.clone()),
            Self::HostProcess(id) => AttachmentId::Host(id.clone()),
        }
    }
}

/// Whether this host has such containers is the attacher's answer.
impl From<AttachHandle> for RequestedContainer {
    fn from(handle: AttachHandle) -> Self {
        match handle {
            AttachHandle::LinuxPid { pid } => {
                Self::Namespaced { id: AttachmentId::Process(pid), target: Target::Process(pid) }
            }
            AttachHandle::LinuxNetns { id, path } => {
                Self::Namespaced { id: AttachmentId::Namespace(id), target: Target::Namespace(PathBuf::from(path)) }
            }
            AttachHandle::WindowsContainer { container_id, .. } => Self::Namespaced {
                id: AttachmentId::Compute(container_id.clone()),
                target: Target::Compute(container_id),
            },
            AttachHandle::GuestManaged { id } => Self::Guest(id),
            AttachHandle::HostShared { id } => Self::HostProcess(id),
        }
    }
}
