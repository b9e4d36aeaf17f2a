//! Events: what the daemon tells without being asked.

use serde::{Deserialize, Serialize};

/// Something that happened without being asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A peer completed a handshake, or has completed none for 180 seconds. Nothing is said of a peer before its first
    /// handshake.
    PeerHealthChanged {
        /// The peer, base64.
        pubkey: String,
        /// Whether its last handshake is younger than 180 seconds.
        healthy: bool,
    },
    /// NAT traversal moved a peer to another endpoint.
    NatEndpointChanged {
        /// The peer, base64.
        pubkey: String,
        /// Where it is reached now, `host:port`.
        endpoint: String,
    },
}

/// Who may be sent an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventAudience {
    /// Every connection: part of the published protocol.
    Everyone,
    /// Connections whose [`super::Hello`] named the event, given here by its tag.
    Subscribers(&'static str),
}

impl Event {
    /// Who may be sent this event. The published client breaks on events it does not know, so that each event
    /// that is added here is for subscribers.
    pub fn audience(&self) -> EventAudience {
        match self {
            Self::PeerHealthChanged { .. } | Self::NatEndpointChanged { .. } => EventAudience::Everyone,
        }
    }
}
