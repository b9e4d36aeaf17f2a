//! Watches the devices: keeps the observation that `status` reads, and tells clients what changed.

mod observation;

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant, UNIX_EPOCH},
};

use tokio::sync::{Notify, broadcast, watch};

pub(super) use self::observation::Observation;
use super::{Engine, Error, context::Context};
use crate::{
    contract::{DeviceStatus, PeerStatus},
    keys::PublicKey,
    names::LinkName,
    protocol::Event,
};

/// Observing may take one part in this many of the time,
const SHARE: u32 = 500;

/// but happens at least once in this many intervals: on a busy machine a look is long because it waits, not because it
/// works, and a status of half a minute ago is of no use.
const LONGEST_PAUSE: u32 = 5;

/// Looks at the devices, and keeps what was seen last.
#[derive(Debug)]
pub(super) struct DeviceObserver {
    context: Arc<Context>,
    last: watch::Sender<Arc<Observation>>,
    /// Held while looking, so that a look that began earlier never overwrites a later one.
    looking: tokio::sync::Mutex<()>,
    schedule: LookSchedule,
    events: broadcast::Sender<Arc<Event>>,
}

/// When the next look is due.
#[derive(Debug, Default)]
struct LookSchedule {
    /// How long the last look took. Every look is told here, also one that a pass took.
    took: watch::Sender<Duration>,
    /// Wakes the observer before its interval is over.
    soon: Arc<Notify>,
}

impl DeviceObserver {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        let events = broadcast::Sender::new(context.config.event_queue);
        Self {
            context: Arc::clone(context),
            last: watch::Sender::default(),
            looking: tokio::sync::Mutex::default(),
            schedule: LookSchedule::default(),
            events,
        }
    }

    /// What was seen last.
    pub(super) fn last(&self) -> Arc<Observation> {
        Arc::clone(&self.last.borrow())
    }

    /// What is told from now on.
    pub(super) fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// Has a look taken soon, because a device was changed.
    pub(super) fn look_soon(&self) {
        self.schedule.soon.notify_one();
    }

    /// Unix second of the last handshake with a peer of the global device.
    pub(super) fn seen_at(&self, public_key: &PublicKey) -> Option<u64> {
        let last = self.last.borrow();
        let at = last.peer(public_key)?.last_handshake?;
        at.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
    }

    /// Looks once. A failure is logged, for callers that go on without.
    pub(super) async fn observe(&self) {
        if let Err(error) = self.look().await {
            tracing::warn!(%error, "the devices could not be observed");
        }
    }

    /// The devices as they are now, which `status` tells from then on, and clients hear of.
    pub(super) async fn look(&self) -> Result<Vec<DeviceStatus>, Error> {
        let _looking = self.looking.lock().await;
        let started = Instant::now();
        let mut devices = self.context.host.devices.observe().await?;
        // Read after the devices: an overlay that was set up while the host was looked at is found under its name.
        let name = self.context.ledger.desired().overlay().map(|overlay| overlay.device.clone());
        let before = self.last();
        let global = devices.iter_mut().find(|device| Some(&device.name) == name.as_ref());
        let peers = global.map(|device| {
            if device.peers == before.peers {
                // The same list, not an equal one: those who have compared with it see at once that nothing is new.
                device.peers = Arc::clone(&before.peers);
            }
            Arc::clone(&device.peers)
        });
        let names = devices.iter().map(|device| device.name.clone()).collect();
        self.note(&before, names, peers.unwrap_or_default());
        self.schedule.took.send_replace(started.elapsed());
        Ok(devices)
    }

    fn note(&self, before: &Observation, devices: Vec<LinkName>, peers: Arc<Vec<PeerStatus>>) {
        let next = Observation::after(before, devices, peers, self.context.config.clock.system_time());
        if next.is_as(before) {
            return;
        }
        for event in next.events_since(before) {
            // Without a receiver sending fails, and that is fine.
            drop(self.events.send(Arc::new(event)));
        }
        self.last.send_replace(Arc::new(next));
    }
}

/// Observes until the engine is dropped.
pub(super) fn spawn(engine: &Arc<Engine>) {
    let observer = &engine.observer;
    let soon = Arc::clone(&observer.schedule.soon);
    let took = observer.schedule.took.subscribe();
    let interval = observer.context.config.times.observe_interval;
    tokio::spawn(run(Arc::downgrade(engine), soon, took, interval));
}

/// Holds the engine only while it observes, so that an engine without a user ends.
async fn run(engine: Weak<Engine>, soon: Arc<Notify>, mut took: watch::Receiver<Duration>, interval: Duration) {
    loop {
        let cost = *took.borrow_and_update();
        // A change of a device is to be seen soon, but not at the price of observing all the time.
        tokio::time::sleep((cost * 10).min(interval)).await;
        tokio::select! {
            biased;
            () = soon.notified() => tracing::trace!("asked to look"),
            looked = took.changed() => match looked {
                // A pass has looked: the interval begins anew.
                Ok(()) => continue,
                Err(_) => return,
            },
            () = tokio::time::sleep((cost * SHARE).clamp(interval, interval * LONGEST_PAUSE)) => {}
        }
        let Some(engine) = engine.upgrade() else { return };
        engine.observer.observe().await;
    }
}
