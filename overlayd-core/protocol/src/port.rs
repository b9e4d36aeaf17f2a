use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::unset;

/// Transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// *Addition.* Ports of the host that lead to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// `tcp` or `udp`.
    pub protocol: PortProtocol,
    /// The host's address; absent is all of them.
    #[serde(default, skip_serializing_if = "unset")]
    pub host_ip: Option<IpAddr>,
    /// The host's port, or the first of a range.
    pub host_port: u16,
    /// The last port of the range, inclusive; absent is a single port.
    #[serde(default, skip_serializing_if = "unset")]
    pub host_port_end: Option<u16>,
    /// The container's port that `host_port` leads to; those of a range follow in order.
    pub container_port: u16,
}
