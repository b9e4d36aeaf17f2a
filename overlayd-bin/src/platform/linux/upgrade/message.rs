//! What a daemon and its successor send each other.

use serde::{Deserialize, Serialize};

/// Which hand-over this program speaks; raised with every change that an older one would not understand.
pub(super) const HANDOVER_VERSION: u32 = 1;

/// What the two processes say to each other, one JSON text a datagram, with descriptors where that is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum UpgradeMessage {
    /// The successor could take over.
    Able {
        /// Its [`HANDOVER_VERSION`].
        handover: u32,
        /// Its release.
        version: String,
    },
    /// The successor cannot take over and ends.
    Unable {
        /// Why, for people.
        reason: String,
    },
    /// The listening socket comes along.
    Listener,
    /// The descriptors of a device come along.
    Device {
        /// Name of its interface.
        name: String,
    },
    /// Everything is given: it is the successor's turn.
    Go,
    /// The successor answers requests.
    Serving,
}
