//! One look at the devices: their peers, which of them are healthy, and what is news since the look before.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{contract::PeerStatus, keys::PublicKey, names::LinkName, protocol::Event};

/// A peer that has not completed a handshake for this long is unhealthy (a session lives 180 s, WireGuard section 6.1).
const HEALTHY: Duration = Duration::from_secs(180);

/// The devices as last observed.
#[derive(Debug, Default)]
pub(in crate::engine) struct Observation {
    pub(in crate::engine) devices: Vec<LinkName>,
    /// Those of the global device, in the order of their keys. The same list for as long as nothing about them changes.
    pub(in crate::engine) peers: Arc<Vec<PeerStatus>>,
    /// Those that have completed a handshake not long ago.
    healthy: BTreeSet<PublicKey>,
}

impl Observation {
    /// What is seen at `now`, after `before` was.
    pub(super) fn after(before: &Self, devices: Vec<LinkName>, peers: Arc<Vec<PeerStatus>>, now: SystemTime) -> Self {
        let healthy = if Arc::ptr_eq(&before.peers, &peers) {
            // Without a handshake no peer becomes healthy, so that only those that were are looked at again.
            let still = before.healthy.iter().filter(|key| find(&peers, key).is_some_and(|peer| is_healthy(peer, now)));
            still.copied().collect()
        } else {
            peers.iter().filter(|peer| is_healthy(peer, now)).map(|peer| peer.public_key).collect()
        };
        Self { devices, peers, healthy }
    }

    /// A peer of the global device.
    pub(in crate::engine) fn peer(&self, key: &PublicKey) -> Option<&PeerStatus> {
        find(&self.peers, key)
    }

    pub(super) fn is_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.peers, &other.peers) && self.devices == other.devices && self.healthy == other.healthy
    }

    /// What clients are told of the difference.
    pub(super) fn events_since(&self, before: &Self) -> Vec<Event> {
        let mut events = Vec::new();
        // Both lists are in the order of their keys.
        // One walk over both: a search for each peer would take longer than the look itself.
        let mut known = before.peers.iter().peekable();
        for peer in self.peers.iter() {
            let key = &peer.public_key;
            while known.next_if(|known| known.public_key < *key).is_some() {}
            let known = known.next_if(|known| known.public_key == *key);
            let healthy = self.healthy.contains(key);
            // Of a peer that is new nothing is said before its first handshake: until then its health is unknown, and
            // `false` would make a client give up a peer that was added a moment ago.
            if before.healthy.contains(key) != healthy {
                events.push(Event::PeerHealthChanged { pubkey: key.to_base64(), healthy });
            }
            if let Some(known) = known.and_then(|known| known.endpoint)
                && let Some(endpoint) = peer.endpoint
                && known != endpoint
            {
                events.push(Event::NatEndpointChanged { pubkey: key.to_base64(), endpoint: endpoint.to_string() });
            }
        }
        events
    }
}

fn find<'a>(peers: &'a [PeerStatus], key: &PublicKey) -> Option<&'a PeerStatus> {
    peers.binary_search_by_key(key, |peer| peer.public_key).ok().map(|place| &peers[place])
}

fn is_healthy(peer: &PeerStatus, now: SystemTime) -> bool {
    // A handshake in the future is one from before the clock was set back.
    peer.last_handshake.is_some_and(|at| now.duration_since(at).is_ok_and(|age| age < HEALTHY) || at > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last_handshake: Option<SystemTime>) -> PeerStatus {
        PeerStatus {
            public_key: PublicKey::from_bytes([7; 32]),
            endpoint: None,
            allowed_ips: Vec::new(),
            last_handshake,
            rx_bytes: 0,
            tx_bytes: 0,
            keepalive: None,
        }
    }

    fn observed(before: &Observation, peers: Vec<PeerStatus>, now: SystemTime) -> Observation {
        Observation::after(before, Vec::new(), Arc::new(peers), now)
    }

    #[test]
    fn nothing_is_said_of_a_peer_before_its_first_handshake() {
        let now = SystemTime::now();
        let added = observed(&Observation::default(), vec![peer(None)], now);
        assert_eq!(added.events_since(&Observation::default()), []);

        let pubkey = PublicKey::from_bytes([7; 32]).to_base64();
        let answered = observed(&added, vec![peer(Some(now))], now);
        assert_eq!(answered.events_since(&added), [Event::PeerHealthChanged { pubkey: pubkey.clone(), healthy: true }]);

        let silent = observed(&answered, vec![peer(Some(now))], now + HEALTHY);
        assert_eq!(silent.events_since(&answered), [Event::PeerHealthChanged { pubkey, healthy: false }]);
    }
}
