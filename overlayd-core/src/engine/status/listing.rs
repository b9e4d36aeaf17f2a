//! The list of peers in `status`, which is made anew only when something about a peer has changed.

use std::{
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use ipnet::IpNet;
use tokio::task::JoinError;

use crate::{
    contract,
    desired::{Desired, DeviceScope, EndpointSpec, PeerRecord},
    keys::PublicKey,
    protocol::{ListedPeers, PeerStatus},
    sync::lock,
};

/// Peers beyond this number are listed by a thread of their own, so that no other request waits for that.
const MOST_AT_ONCE: usize = 256;

/// The peers as `status` listed them last, and what they were listed from.
#[derive(Debug, Default)]
pub(super) struct PeerListing(Mutex<LastListing>);

#[derive(Debug, Default)]
struct LastListing {
    from: ListingSource,
    peers: ListedPeers,
}

/// The version of the peers on record, and those that the device has. While both are the same, so is the list.
#[derive(Debug, Default)]
struct ListingSource(u64, Arc<Vec<contract::PeerStatus>>);

/// The peers of the global device, taken from the records.
pub(super) enum PeersToList {
    /// As they were listed before, for nothing about them has changed.
    Listed(ListedPeers),
    /// As they are on record, with the version of the records. They are shared, not copied.
    Recorded(u64, Vec<(PublicKey, Arc<PeerRecord>)>),
}

impl PeerListing {
    /// What is to be listed. The caller holds the records for as long as this takes.
    pub(super) fn take(&self, desired: &Desired, seen: &Arc<Vec<contract::PeerStatus>>) -> PeersToList {
        let version = desired.peers_version();
        let last = lock(&self.0);
        // A pointer and a number are compared instead of 10,000 peers.
        if last.from.0 == version && Arc::ptr_eq(&last.from.1, seen) {
            return PeersToList::Listed(last.peers.clone());
        }
        drop(last);
        let peers = desired.peers_of(DeviceScope::Global).map(|(id, record)| (id.public_key, Arc::clone(record)));
        PeersToList::Recorded(version, peers.collect())
    }

    /// The list.
    pub(super) async fn list(
        self: &Arc<Self>,
        peers: PeersToList,
        seen: &Arc<Vec<contract::PeerStatus>>,
    ) -> ListedPeers {
        match peers {
            PeersToList::Listed(peers) => peers,
            PeersToList::Recorded(_, peers) if peers.len() <= MOST_AT_ONCE => list(&peers, seen).into(),
            PeersToList::Recorded(version, peers) => {
                let listing = Arc::clone(self);
                let from = ListingSource(version, Arc::clone(seen));
                let listed = tokio::task::spawn_blocking(move || listing.renew(from, &peers)).await;
                match listed.map_err(JoinError::try_into_panic) {
                    Ok(peers) => peers,
                    // It goes on where the request is.
                    Err(Ok(panic)) => std::panic::resume_unwind(panic),
                    // The runtime ends, and this request with it.
                    Err(Err(_cancelled)) => std::future::pending().await,
                }
            }
        }
    }

    /// Makes the list anew.
    fn renew(&self, from: ListingSource, peers: &[(PublicKey, Arc<PeerRecord>)]) -> ListedPeers {
        let peers = ListedPeers::from(list(peers, &from.1));
        let before = std::mem::replace(&mut *lock(&self.0), LastListing { from, peers: peers.clone() });
        // A long list takes long to free: not while the lock is held.
        drop(before);
        peers
    }
}

/// Both are in the order of their keys.
fn list(peers: &[(PublicKey, Arc<PeerRecord>)], seen: &[contract::PeerStatus]) -> Vec<PeerStatus> {
    // One walk over both, not a search for each peer.
    let mut seen = seen.iter().peekable();
    let listed = peers.iter().map(|(key, record)| {
        while seen.next_if(|seen| seen.public_key < *key).is_some() {}
        peer_status(key, record, seen.next_if(|seen| seen.public_key == *key))
    });
    listed.collect()
}

fn peer_status(key: &PublicKey, record: &PeerRecord, seen: Option<&contract::PeerStatus>) -> PeerStatus {
    let seen_at = seen.and_then(|seen| seen.endpoint);
    let endpoint = match (&record.endpoint, seen_at) {
        (_, Some(address)) => address.to_string(),
        (EndpointSpec::Address(address), None) => address.to_string(),
        (EndpointSpec::Roaming | EndpointSpec::Name { .. }, None) => String::new(),
    };
    PeerStatus {
        public_key: key.to_base64(),
        endpoint,
        allowed_ips: comma_separated(&record.allowed_ips),
        last_handshake_unix_secs: seen.and_then(|seen| seen.last_handshake).map_or(0, unix_seconds),
    }
}

fn comma_separated(ranges: &[IpNet]) -> String {
    match ranges {
        // Mostly there is one.
        [range] => range.to_string(),
        ranges => ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

fn unix_seconds(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
