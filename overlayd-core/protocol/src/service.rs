//! Services' networks: their modes, and what setting one up gives.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::unset;

/// How a service's containers are connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverlayMode {
    /// A network of its own on the node's device.
    #[default]
    Auto,
    /// One network for all shared services of the node.
    Shared,
    /// A WireGuard device of its own.
    Dedicated,
    /// As `auto`, fenced off from everything but its own network.
    Isolated,
}

/// Reply to `setup_service_overlay`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOverlayInfo {
    /// What containers attach to: the bridge on Linux.
    pub name: String,
    /// The mode in force.
    pub mode: OverlayMode,
    /// Dedicated only: the device's public key, base64.
    #[serde(default, skip_serializing_if = "unset")]
    pub wg_public_key: Option<String>,
    /// Dedicated only: the device's UDP port.
    #[serde(default, skip_serializing_if = "unset")]
    pub wg_port: Option<u16>,
    /// Dedicated only: this node's address on it.
    #[serde(default, skip_serializing_if = "unset")]
    pub overlay_ip: Option<IpAddr>,
    /// Dedicated only: this node's block of it, a CIDR.
    #[serde(default, skip_serializing_if = "unset")]
    pub subnet: Option<String>,
}
