//! The peers that `status` lists.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error as _};
use serde_json::value::{RawValue, to_raw_value};

/// A peer as the device sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Base64.
    pub public_key: String,
    /// `ip:port`; empty when unknown.
    pub endpoint: String,
    /// CIDRs, separated by commas.
    pub allowed_ips: String,
    /// Unix seconds; 0 is never.
    pub last_handshake_unix_secs: i64,
}

/// From this many peers on the text is kept, because it takes long to make.
const MANY: usize = 256;

/// The peers that a `status` lists: shared, and written as JSON once, because there may be thousands, and they are asked for
/// more often than they change.
#[derive(Clone, Default)]
pub struct ListedPeers(Arc<WrittenList>);

#[derive(Default)]
struct WrittenList {
    peers: Vec<PeerStatus>,
    written: OnceLock<Box<RawValue>>,
}

impl ListedPeers {
    /// Whether both are one list, not only equal.
    pub fn is_same_list(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl From<Vec<PeerStatus>> for ListedPeers {
    fn from(peers: Vec<PeerStatus>) -> Self {
        Self(Arc::new(WrittenList { peers, written: OnceLock::new() }))
    }
}

impl Deref for ListedPeers {
    type Target = [PeerStatus];

    fn deref(&self) -> &[PeerStatus] {
        &self.0.peers
    }
}

impl fmt::Debug for ListedPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.peers.fmt(f)
    }
}

impl PartialEq for ListedPeers {
    fn eq(&self, other: &Self) -> bool {
        self.is_same_list(other) || self.0.peers == other.0.peers
    }
}

impl Eq for ListedPeers {}

/// For JSON; other formats see the text of a long list as one value.
impl Serialize for ListedPeers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A short list is written faster than it is copied, and keeping its text would only cost memory.
        if self.len() < MANY {
            return self.0.peers.serialize(serializer);
        }
        if let Some(written) = self.0.written.get() {
            return written.serialize(serializer);
        }
        // Two replies at the same time may both write it; the text that comes first is kept, and both are equal.
        let written = to_raw_value(&self.0.peers).map_err(S::Error::custom)?;
        self.0.written.get_or_init(|| written).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ListedPeers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_any_length_is_written_like_its_peers_each_time() {
        for len in [0, 1, MANY - 1, MANY, 3 * MANY] {
            let peer = |number| PeerStatus {
                public_key: format!("key \"{number}\""),
                endpoint: String::new(),
                allowed_ips: "10.0.0.0/8".into(),
                last_handshake_unix_secs: number,
            };
            let peers: Vec<_> = (0..).map(peer).take(len).collect();
            let list = ListedPeers::from(peers.clone());
            let plain = serde_json::to_string(&peers).unwrap();
            assert_eq!(serde_json::to_string(&list).unwrap(), plain);
            assert_eq!(serde_json::to_string(&list.clone()).unwrap(), plain, "the second time");
            assert_eq!(serde_json::from_str::<ListedPeers>(&plain).unwrap(), list);
        }
    }
}
