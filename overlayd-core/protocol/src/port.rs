//! Published ports.

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

impl PortSpec {
    /// One port of all addresses of the host.
    pub fn new(protocol: PortProtocol, host_port: u16, container_port: u16) -> Self {
        Self { protocol, host_ip: None, host_port, host_port_end: None, container_port }
    }

    /// Only on this address of the host.
    pub fn host_ip(self, ip: IpAddr) -> Self {
        Self { host_ip: Some(ip), ..self }
    }

    /// A range that ends with this port of the host.
    pub fn through(self, last_host_port: u16) -> Self {
        Self { host_port_end: Some(last_host_port), ..self }
    }
}
