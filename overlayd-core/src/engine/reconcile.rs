//! The host drifts: somebody deletes a bridge, flushes a ruleset, takes an address away; containers die without a word.
//! A pass says again what was asked for, which changes nothing where nothing has changed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior};

use super::{Engine, Error, heal::Outcome, locks::Key};
use crate::{
    contract::{Drift, DriftSignal},
    desired::{Handle, Phase},
};

/// What is told within this time is put right together: one command of a person is many events.
const GATHER: Duration = Duration::from_millis(40);

/// After a pass, this many times as long as it took is free of passes,
const REST: u32 = 1;

/// but not longer than this.
const LONGEST_REST: Duration = Duration::from_millis(200);

/// Starts passes until the engine is dropped: now and then, and as soon as a backend tells of drift.
pub(super) fn spawn(engine: &Arc<Engine>) {
    let mut ticks = tokio::time::interval(engine.config.reconcile_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let drift = engine.host.drift().clone();
    let engine = Arc::downgrade(engine);
    tokio::spawn(async move {
        ticks.tick().await;
        run(engine, ticks, drift).await;
    });
}

/// Holds the engine only while it works.
async fn run(engine: Weak<Engine>, mut ticks: tokio::time::Interval, signal: DriftSignal) {
    loop {
        let mut drift = tokio::select! {
            drift = signal.next() => drift,
            _ = ticks.tick() => Drift::default(),
        };
        if drift != Drift::default() {
            tokio::time::sleep(GATHER).await;
            drift.merge(signal.take());
        }
        let Some(engine) = engine.upgrade() else { return };
        let started = Instant::now();
        if drift == Drift::default() {
            engine.reconcile().await;
        } else {
            engine.heal(drift).await;
        }
        drop(engine);
        // Somebody who undoes our work as soon as it is done shall not keep the daemon busy all the time.
        tokio::time::sleep((started.elapsed() * REST).min(LONGEST_REST)).await;
    }
}

impl Engine {
    /// One pass. What fails is logged and tried again by the next one.
    pub async fn reconcile(&self) {
        self.pass().await;
    }

    /// One pass; whether the host is in line after it.
    pub(super) async fn pass(&self) -> Outcome {
        let _world = self.world.read().await;
        let before = self.mtu.load(Ordering::Relaxed);
        let overlay = self.reconcile_overlay().await;
        let resized = self.mtu.load(Ordering::Relaxed) != before;
        if resized {
            tracing::info!(
                mtu = self.mtu.load(Ordering::Relaxed),
                before,
                "the underlay carries packets of another size"
            );
        }
        let attachments = self.reconcile_attachments(if resized { Which::All } else { Which::Drifted }).await;
        self.remove_left_services().await;
        let outcome = if overlay.is_ok() && attachments.is_ok() { Outcome::InLine } else { Outcome::Failed };
        for (what, outcome) in [("overlay and networks", overlay), ("attachments", attachments)] {
            if let Err(error) = outcome {
                tracing::warn!(%error, "{what} could not be brought in line; the next pass tries again");
            }
        }
        outcome
    }

    /// Brings the overlay and all networks in line.
    pub(super) async fn reconcile_overlay(&self) -> Result<(), Error> {
        let _overlay = self.locks.exclusive(Key::Overlay).await;
        let overlay = self.desired().overlay().cloned();
        match overlay {
            Some(overlay) => self.bring_up(&overlay).await,
            None => self.ensure_all_networks().await,
        }
    }

    /// Plugs in again what has lost its place, and unplugs what is gone or could not be unplugged before.
    async fn reconcile_attachments(&self, which: Which) -> Result<(), Error> {
        let observed = self.host.observe_networks().await?;
        let alive: BTreeMap<_, bool> =
            observed.attachments.into_iter().map(|attachment| (attachment.id, attachment.alive)).collect();
        self.refence_edges(|id| alive.contains_key(id)).await;
        let handles: Vec<(Handle, String)> = {
            let (desired, withheld) = (self.desired(), self.withheld());
            let all = desired.attachments().iter().filter(|(_, record)| {
                let kept_out = record.issued.as_ref().is_some_and(|issued| withheld.contains(&issued.public_key));
                let in_place = alive.get(&record.id) == Some(&true) && !kept_out;
                which == Which::All || record.phase == Phase::Leaving || (!in_place && record.has_host_objects())
            });
            all.map(|(handle, record)| (handle.clone(), record.service.clone())).collect()
        };
        for (handle, service) in handles {
            let _service = self.locks.shared(Key::Service(service)).await;
            let _handle = self.locks.exclusive(Key::Handle(handle.clone())).await;
            match self.replug(&handle).await {
                Ok(Some(_)) if which == Which::Drifted => tracing::debug!(%handle, "plugged in again"),
                Ok(_) => {}
                Err(error) => tracing::warn!(%handle, %error, "could not be plugged in again"),
            }
        }
        Ok(())
    }
}

/// Which attachments a pass looks after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Those that are not as recorded.
    Drifted,
    /// All, because what they are planned with has changed.
    All,
}
