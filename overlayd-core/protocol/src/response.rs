//! Responses: what the daemon answers.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    EdgeConfig, EdgePeerStatus, HelloReply, NatStatusWire, PeerSpec, SecretText, ServiceOverlayInfo, StatusSnapshot,
    unset,
};

/// What the daemon answers, by its tag `result`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Response {
    /// Done, and nothing to tell.
    Ok,
    /// To `allocate_ip`.
    Ip {
        /// The address.
        ip: IpAddr,
    },
    /// To `attach_container`.
    Attached(AttachResult),
    /// To `attach_container` of a guest that manages its own device.
    GuestConfig(GuestOverlayConfig),
    /// To `setup_global_overlay`.
    BridgeName {
        /// The node's device.
        name: String,
    },
    /// To `status`.
    Status(StatusSnapshot),
    /// To `nat_status`.
    NatStatus(NatStatusWire),
    /// To `prune_orphan_bridges`.
    PrunedBridges {
        /// Networks that were removed.
        reclaimed: Vec<String>,
    },
    /// To `setup_service_overlay`.
    ServiceOverlay(ServiceOverlayInfo),
    /// To `mint_edge_peer`.
    EdgeConfig(EdgeConfig),
    /// To `list_edge_peers`.
    EdgePeers {
        /// The issued identities.
        peers: Vec<EdgePeerStatus>,
    },
    /// To anything that failed.
    Err {
        /// Why, for people.
        message: String,
        /// *Addition.* What kind of failure it is, for programs, as `conflict`; docs/protocol.md lists the words.
        #[serde(default, skip_serializing_if = "unset", deserialize_with = "text_or_nothing")]
        code: Option<String>,
    },
    /// *Addition.* To `hello`.
    Hello(HelloReply),
}

impl Response {
    /// A failure: its kind for programs, and the reason for people.
    pub fn err(code: &'static str, message: impl std::fmt::Display) -> Self {
        Self::Err { message: message.to_string(), code: Some(code.to_owned()) }
    }

    /// How many things it lists, by which its size can be guessed.
    pub fn listed(&self) -> usize {
        match self {
            Self::Status(status) => status.peers.len() + status.services.len() + status.dedicated_services.len(),
            Self::EdgePeers { peers } => peers.len(),
            _ => 0,
        }
    }

    /// The tag of the result, for logs, metrics and error messages.
    pub fn result(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Ip { .. } => "ip",
            Self::Attached(_) => "attached",
            Self::GuestConfig(_) => "guest_config",
            Self::BridgeName { .. } => "bridge_name",
            Self::Status(_) => "status",
            Self::NatStatus(_) => "nat_status",
            Self::PrunedBridges { .. } => "pruned_bridges",
            Self::ServiceOverlay(_) => "service_overlay",
            Self::EdgeConfig(_) => "edge_config",
            Self::EdgePeers { .. } => "edge_peers",
            Self::Err { .. } => "err",
            Self::Hello(_) => "hello",
        }
    }
}

/// Reads an added member leniently: the published protocol reserves no member for it, so that a `code` of another type
/// is an unknown member as any other, and must not spoil the reply.
fn text_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => Ok(Some(text)),
        _ => Ok(None),
    }
}

/// An attachment that came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachResult {
    /// The container's address on its service's network.
    pub ip: IpAddr,
    /// Windows: the namespace made for it.
    #[serde(default, skip_serializing_if = "unset")]
    pub namespace_guid: Option<String>,
}

/// All that a guest needs to run its own WireGuard device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestOverlayConfig {
    /// The guest's address.
    pub overlay_ip: IpAddr,
    /// Length of the address's prefix.
    pub prefix_len: u8,
    /// The guest's own key, base64.
    pub private_key: SecretText,
    /// Its public half, base64.
    pub public_key: String,
    /// UDP port of the guest's device.
    pub listen_port: u16,
    /// The guest's peers.
    pub peers: Vec<PeerSpec>,
    /// The guest's resolver.
    #[serde(default, skip_serializing_if = "unset")]
    pub dns_server: Option<IpAddr>,
    /// The guest's search domain.
    #[serde(default, skip_serializing_if = "unset")]
    pub dns_domain: Option<String>,
}
