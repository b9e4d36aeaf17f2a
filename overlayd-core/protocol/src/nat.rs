//! NAT traversal: configuration, candidates and state.

use serde::{Deserialize, Serialize};

use super::{SecretText, unset};

// `nat` absent differs from `nat` empty: an empty object turns NAT traversal off. So `enabled` must default to false here,
// although the built-in value is true.
/// NAT traversal as the caller wants it. Absent from a request means built-in values with NAT enabled; an empty object
/// means disabled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NatConfigSpec {
    /// Whether to traverse NATs at all.
    pub enabled: bool,
    /// `host:port` each; empty means the built-in ones.
    pub stun_servers: Vec<String>,
    /// Relays that may be used.
    pub turn_servers: Vec<TurnServerSpec>,
    /// In seconds; 0 means 15.
    pub hole_punch_timeout_secs: u64,
    /// In seconds; 0 means 60.
    pub stun_refresh_interval_secs: u64,
    /// 0 means 10.
    pub max_candidate_pairs: u64,
    /// The relay this node offers to others.
    #[serde(skip_serializing_if = "unset")]
    pub relay_server: Option<RelayServerSpec>,
}

/// A relay that another party runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TurnServerSpec {
    /// `host:port`.
    pub addr: String,
    /// The name that this node has there.
    pub username: String,
    /// The secret that goes with the name.
    pub credential: SecretText,
}

/// The relay this node offers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RelayServerSpec {
    /// UDP port; 0 lets the host choose.
    pub listen_port: u16,
    /// `host:port` under which others reach it.
    pub external_addr: String,
    /// 0 means 100.
    pub max_sessions: u64,
    /// Shared by all who may use it.
    #[serde(skip_serializing_if = "unset")]
    pub auth_credential: Option<SecretText>,
}

/// An address under which a node may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatCandidateWire {
    /// `host`, `server-reflexive` or `relay`; not checked by the decoder.
    pub candidate_type: String,
    /// `ip:port`.
    pub address: String,
    /// Higher is tried first.
    pub priority: u32,
}

/// Reply to `nat_status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NatStatusWire {
    /// This node's own candidates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<NatCandidateWire>,
    /// How each peer is reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<NatPeerWire>,
    /// Unix seconds of the last discovery; 0 is never.
    pub last_refresh: u64,
}

/// How one peer is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatPeerWire {
    /// The peer.
    pub node_id: String,
    /// `direct`, `hole-punched`, `relayed` or `unreachable`.
    pub connection_type: String,
    /// Where its packets go.
    #[serde(default, skip_serializing_if = "unset")]
    pub remote_endpoint: Option<String>,
}
