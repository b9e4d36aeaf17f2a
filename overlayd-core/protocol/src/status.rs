//! What `status` tells.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{FindingStatus, ListedPeers, OverlayMode, unset};

/// Reply to `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusSnapshot {
    /// The node's WireGuard device.
    #[serde(default, skip_serializing_if = "unset")]
    pub interface: Option<String>,
    /// The node's overlay address.
    #[serde(default, skip_serializing_if = "unset")]
    pub node_ip: Option<IpAddr>,
    /// The node's key, base64.
    #[serde(default, skip_serializing_if = "unset")]
    pub public_key: Option<String>,
    /// The cluster's range, a CIDR.
    #[serde(default, skip_serializing_if = "unset")]
    pub overlay_cidr: Option<String>,
    /// The node's part of it, a CIDR.
    #[serde(default, skip_serializing_if = "unset")]
    pub slice_cidr: Option<String>,
    /// Peers of the node's device.
    pub peer_count: u32,
    /// Services that are set up.
    pub service_count: u32,
    /// The peers of the node's device.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub peers: ListedPeers,
    /// Services with a device of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dedicated_services: Vec<DedicatedServiceStatus>,
    /// *Addition.* All services that are set up, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceStatus>,
    /// *Addition.* Rules of other programs on this host that may stop packets of the overlay, each in words that name
    /// its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<String>,
    /// *Addition.* What the daemon put right on the host since it started; absent while there was nothing.
    #[serde(default, skip_serializing_if = "unset")]
    pub drift: Option<DriftStatus>,
    /// *Addition.* What an operator should know: what was found on the host, and what the last start or reconcile pass
    /// could not do. `obstacles` has the texts of some of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<FindingStatus>,
}

fn is_empty(peers: &ListedPeers) -> bool {
    peers.is_empty()
}

/// A dedicated service's device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedicatedServiceStatus {
    /// The service.
    pub service: String,
    /// Its WireGuard device.
    pub interface: String,
    /// The device's key, base64.
    pub public_key: String,
    /// The device's UDP port.
    pub listen_port: u16,
    /// This node's address on it.
    pub overlay_ip: IpAddr,
    /// This node's block of it, a CIDR.
    pub subnet: String,
    /// Peers of the device.
    pub peer_count: u32,
}

// `subnet` is always there, but an option as in `ServiceOverlayInfo`, so that a program treats both alike.
/// *Addition.* A service that is set up on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// The service.
    pub service: String,
    /// The mode in force.
    pub mode: OverlayMode,
    /// What containers attach to: the bridge on Linux.
    pub name: String,
    /// This node's block of the cluster's range, a CIDR.
    #[serde(default, skip_serializing_if = "unset")]
    pub subnet: Option<String>,
    /// Containers attached to it.
    pub attachments: u32,
}

/// *Addition.* What other programs changed on the host, and the daemon put right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftStatus {
    /// How often an object of the daemon's was changed or removed, and put right.
    pub healed: u64,
    /// Containers that ended without being detached, and were.
    pub ended: u64,
}
