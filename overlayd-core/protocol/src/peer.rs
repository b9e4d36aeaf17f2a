//! Peers, as they are added and as configurations name them.

use serde::{Deserialize, Serialize};

use super::NatCandidateWire;

/// A WireGuard peer, as in `add_peer` and in configurations that are handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSpec {
    /// Base64 of 32 bytes; not checked by the decoder.
    pub public_key: String,
    /// `host:port`; `0.0.0.0:0` means that the peer roams and is not known yet.
    pub endpoint: String,
    /// CIDRs, separated by commas.
    pub allowed_ips: String,
    /// In seconds; 0 is off.
    pub persistent_keepalive_secs: u64,
    /// Other addresses the peer may have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<NatCandidateWire>,
}

/// Which device a peer operation is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "snake_case")]
pub enum PeerScope {
    /// The node's own device.
    #[default]
    Global,
    /// The device of a dedicated service.
    Service {
        /// The service.
        service: String,
    },
}

impl PeerSpec {
    /// A peer with a keepalive of 25 seconds, which keeps mappings of most NATs open.
    pub fn new(public_key: impl Into<String>, endpoint: impl Into<String>, allowed_ips: impl Into<String>) -> Self {
        Self {
            public_key: public_key.into(),
            endpoint: endpoint.into(),
            allowed_ips: allowed_ips.into(),
            persistent_keepalive_secs: 25,
            candidates: Vec::new(),
        }
    }

    /// Sends a keepalive this often while idle; 0 is off.
    pub fn keepalive_secs(self, secs: u64) -> Self {
        Self { persistent_keepalive_secs: secs, ..self }
    }
}
