//! How client and daemon introduce themselves to each other.

use serde::{Deserialize, Serialize};

use super::unset;

/// *Addition.* A client introduces itself (`op` `hello`); optional, at any time, any number of times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Name and version of the client, for the daemon's log.
    #[serde(default, skip_serializing_if = "unset")]
    pub client: Option<String>,
    /// Added events (by their `event` tag) this connection wants from now on; replaces what an earlier `hello` said.
    /// The published events come without asking. Names the daemon does not know are ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
}

/// *Addition.* The daemon introduces itself (`result` `hello`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloReply {
    /// [`super::PROTOCOL_VERSION`] of the daemon.
    pub version: u32,
    /// The daemon's release, as `overlayd 0.1.0`.
    pub build: String,
    /// What this daemon can do beyond the published protocol, as `linux_netns`.
    pub features: Vec<String>,
    /// Name of the WireGuard backend in use, as `userspace-wg`.
    #[serde(default, skip_serializing_if = "unset")]
    pub backend: Option<String>,
}

impl Hello {
    /// A client with this name and version, as `my-tool 1.2`.
    pub fn new(client: impl Into<String>) -> Self {
        Self { client: Some(client.into()), events: Vec::new() }
    }

    /// Asks for these added events, by their tags.
    pub fn events(self, events: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { events: events.into_iter().map(Into::into).collect(), ..self }
    }
}
