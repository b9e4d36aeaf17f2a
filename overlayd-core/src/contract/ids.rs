//! What networks and attachments are called.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Name of a local network on the host: the bridge on Linux, the HCN network on Windows (which allows more than an
/// interface name does).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetworkName(pub String);

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A Windows GUID: bare lowercase text without braces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Guid(pub String);

/// Names one container's attachment. Host objects derive their names from it, so that detach needs no memory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentId {
    /// A process, by PID.
    Process(u32),
    /// A network namespace, by the caller's id.
    Namespace(String),
    /// A Windows compute system, by its container id.
    Compute(String),
    /// A Windows attachment, by the namespace GUID that attach returned.
    ComputeNamespace(Guid),
    /// A VM that runs its own WireGuard device, by the caller's id.
    Guest(String),
    /// A process in the host's own network namespace, by the caller's id.
    Host(String),
    /// A peer outside of the cluster that was let in for a while, by its name.
    Edge(String),
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "pid {pid}"),
            Self::Namespace(id) => write!(f, "namespace {id}"),
            Self::Compute(id) => write!(f, "container {id}"),
            Self::ComputeNamespace(guid) => write!(f, "namespace {}", guid.0),
            Self::Guest(id) => write!(f, "guest {id}"),
            Self::Host(id) => write!(f, "host process {id}"),
            Self::Edge(name) => write!(f, "edge {name}"),
        }
    }
}
