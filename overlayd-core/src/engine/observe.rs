//! Watches the devices: keeps the snapshot that `status` reads, and tells clients what changed.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{Notify, watch};

use super::{Engine, Error};
use crate::{
    contract::{DeviceStatus, PeerStatus},
    keys::PublicKey,
    names::LinkName,
    protocol::Event,
};

/// A peer that has not completed a handshake for this long is unhealthy (a session lives 180 s, WireGuard section 6.1).
const HEALTHY: Duration = Duration::from_secs(180);

/// Observing may take one part in this many of the time,
const SHARE: u32 = 500;

/// but happens at least once in this many intervals: on a busy machine a look is long because it waits, not because it
/// works, and nobody shall find a status of half a minute ago.
const LONGEST_PAUSE: u32 = 5;

/// The devices as last observed.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) devices: Vec<LinkName>,
    /// Those of the global device, in the order of their keys. The same list for as long as nothing about them changes.
    pub(super) peers: Arc<Vec<PeerStatus>>,
    /// Those that have completed a handshake not long ago.
    healthy: BTreeSet<PublicKey>,
}

/// Starts observing until the engine is dropped.
pub(super) fn spawn(engine: &Arc<Engine>) {
    let (look, looked) = (Arc::clone(&engine.look), engine.looked.subscribe());
    tokio::spawn(run(Arc::downgrade(engine), look, looked, engine.config.observe_interval));
}

/// Holds the engine only while it observes, so that an engine nobody uses any more ends.
async fn run(engine: Weak<Engine>, look: Arc<Notify>, mut looked: watch::Receiver<Duration>, interval: Duration) {
    loop {
        let cost = *looked.borrow_and_update();
        // Somebody who changed a device wants to see it soon, but not at the price of observing all the time.
        tokio::time::sleep((cost * 10).min(interval)).await;
        tokio::select! {
            biased;
            () = look.notified() => tracing::trace!("asked to look"),
            looked = looked.changed() => match looked {
                // A pass looks, too.
                Ok(()) => continue,
                Err(_) => return,
            },
            () = tokio::time::sleep((cost * SHARE).clamp(interval, interval * LONGEST_PAUSE)) => {}
        }
        let Some(engine) = engine.upgrade() else { return };
        engine.observe().await;
    }
}

impl Engine {
    /// Observes once.
    pub(super) async fn observe(&self) {
        if let Err(error) = self.look_at_devices().await {
            tracing::warn!(%error, "the devices could not be observed");
        }
    }

    /// The devices as they are now, which `status` tells from then on, and clients hear of.
    pub(super) async fn look_at_devices(&self) -> Result<Vec<DeviceStatus>, Error> {
        let _looking = self.observing.lock().await;
        let started = Instant::now();
        let mut devices = self.host.observe_devices().await?;
        let global = self.desired().overlay().map(|overlay| overlay.device.clone());
        let global = devices.iter_mut().find(|device| Some(&device.name) == global.as_ref());
        let before = Arc::clone(&self.observed.borrow());
        let peers = global.map(|device| {
            if device.peers == before.peers {
                // Whoever has compared with that list need not do so again.
                device.peers = Arc::clone(&before.peers);
            }
            Arc::clone(&device.peers)
        });
        let names = devices.iter().map(|device| device.name.clone()).collect();
        self.note_devices(&before, names, peers.unwrap_or_default());
        self.looked.send_replace(started.elapsed());
        Ok(devices)
    }

    fn note_devices(&self, before: &Observed, devices: Vec<LinkName>, peers: Arc<Vec<PeerStatus>>) {
        let now = self.config.clock.system_time();
        let healthy = if Arc::ptr_eq(&before.peers, &peers) {
            // Without a handshake nobody becomes healthy.
            let still = before.healthy.iter().filter(|key| find(&peers, key).is_some_and(|peer| is_healthy(peer, now)));
            still.copied().collect()
        } else {
            peers.iter().filter(|peer| is_healthy(peer, now)).map(|peer| peer.public_key).collect()
        };
        let next = Observed { devices, peers, healthy };
        if next.is_as(before) {
            return;
        }
        for event in changes(before, &next) {
            // Nobody may be listening.
            drop(self.events.send(Arc::new(event)));
        }
        self.observed.send_replace(Arc::new(next));
    }
}

impl Observed {
    /// A peer of the global device.
    pub(super) fn peer(&self, key: &PublicKey) -> Option<&PeerStatus> {
        find(&self.peers, key)
    }

    fn is_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.peers, &other.peers) && self.devices == other.devices && self.healthy == other.healthy
    }
}

fn find<'a>(peers: &'a [PeerStatus], key: &PublicKey) -> Option<&'a PeerStatus> {
    peers.binary_search_by_key(key, |peer| peer.public_key).ok().map(|place| &peers[place])
}

fn is_healthy(peer: &PeerStatus, now: SystemTime) -> bool {
    peer.last_handshake.is_some_and(|at| now.duration_since(at).is_ok_and(|age| age < HEALTHY) || at > now)
}

fn changes(before: &Observed, after: &Observed) -> Vec<Event> {
    let mut events = Vec::new();
    let mut known = before.peers.iter().peekable();
    for peer in after.peers.iter() {
        let key = &peer.public_key;
        while known.next_if(|known| known.public_key < *key).is_some() {}
        let known = known.next_if(|known| known.public_key == *key);
        let healthy = after.healthy.contains(key);
        if known.is_none() || before.healthy.contains(key) != healthy {
            events.push(Event::PeerHealthChanged { pubkey: key.to_base64(), healthy });
        }
        if let (Some(known), Some(endpoint)) = (known.and_then(|known| known.endpoint), peer.endpoint)
            && known != endpoint
        {
            events.push(Event::NatEndpointChanged { pubkey: key.to_base64(), endpoint: endpoint.to_string() });
        }
    }
    events
}
