//! Watches the devices: keeps the snapshot that `status` reads, and tells clients what changed.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::Notify;

use super::Engine;
use crate::{contract::PeerStatus, keys::PublicKey, names::LinkName, protocol::Event};

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
    pub(super) peers: HashMap<PublicKey, PeerStatus>,
    healthy: HashMap<PublicKey, bool>,
}

/// Starts observing until the engine is dropped.
pub(super) fn spawn(engine: &Arc<Engine>) {
    tokio::spawn(run(Arc::downgrade(engine), Arc::clone(&engine.look), engine.config.observe_interval));
}

/// Holds the engine only while it observes, so that an engine nobody uses any more ends.
async fn run(engine: Weak<Engine>, look: Arc<Notify>, interval: Duration) {
    loop {
        let Some(strong) = engine.upgrade() else { return };
        let started = Instant::now();
        strong.observe().await;
        drop(strong);
        let cost = started.elapsed();
        // Somebody who changed a device wants to see it soon, but not at the price of observing all the time.
        tokio::time::sleep((cost * 10).min(interval)).await;
        if tokio::time::timeout((cost * SHARE).clamp(interval, interval * LONGEST_PAUSE), look.notified()).await.is_ok()
        {
            tracing::trace!("asked to look");
        }
    }
}

impl Engine {
    /// Observes once.
    pub(super) async fn observe(&self) {
        let _looking = self.observing.lock().await;
        let statuses = match self.host.observe_devices().await {
            Ok(statuses) => statuses,
            Err(error) => {
                tracing::warn!(%error, "the devices could not be observed");
                return;
            }
        };
        let global = self.desired().overlay().map(|overlay| overlay.device.clone());
        let devices = statuses.iter().map(|status| status.name.clone()).collect();
        let peers: HashMap<_, _> = statuses
            .into_iter()
            .filter(|status| Some(&status.name) == global.as_ref())
            .flat_map(|status| status.peers)
            .map(|peer| (peer.public_key, peer))
            .collect();
        let now = self.config.clock.system_time();
        let healthy = peers.values().map(|peer| (peer.public_key, is_healthy(peer, now))).collect();
        let next = Observed { devices, peers, healthy };
        for event in changes(&self.observed.borrow(), &next) {
            // Nobody may be listening.
            drop(self.events.send(Arc::new(event)));
        }
        self.observed.send_replace(Arc::new(next));
    }
}

fn is_healthy(peer: &PeerStatus, now: SystemTime) -> bool {
    peer.last_handshake.is_some_and(|at| now.duration_since(at).is_ok_and(|age| age < HEALTHY) || at > now)
}

fn changes(before: &Observed, after: &Observed) -> Vec<Event> {
    let mut events = Vec::new();
    for (public_key, healthy) in &after.healthy {
        if before.healthy.get(public_key) != Some(healthy) {
            events.push(Event::PeerHealthChanged { pubkey: public_key.to_base64(), healthy: *healthy });
        }
    }
    for (public_key, peer) in &after.peers {
        let known = before.peers.get(public_key).and_then(|peer| peer.endpoint);
        if let (Some(known), Some(endpoint)) = (known, peer.endpoint)
            && known != endpoint
        {
            events.push(Event::NatEndpointChanged { pubkey: public_key.to_base64(), endpoint: endpoint.to_string() });
        }
    }
    events
}
