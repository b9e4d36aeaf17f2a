//! The host drifts: somebody deletes a bridge, flushes a ruleset, takes an address away; containers die without a word.
//! A pass says again what was asked for, which changes nothing where nothing has changed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak, atomic::Ordering},
};

use tokio::time::MissedTickBehavior;

use super::{Engine, Error, locks::Key};
use crate::desired::{Handle, Phase};

/// Starts passes until the engine is dropped.
pub(super) fn spawn(engine: &Arc<Engine>) {
    let mut ticks = tokio::time::interval(engine.config.reconcile_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let engine = Arc::downgrade(engine);
    tokio::spawn(async move {
        ticks.tick().await;
        run(engine, ticks).await;
    });
}

async fn run(engine: Weak<Engine>, mut ticks: tokio::time::Interval) {
    loop {
        ticks.tick().await;
        let Some(engine) = engine.upgrade() else { return };
        engine.reconcile().await;
    }
}

impl Engine {
    /// One pass. What fails is logged and tried again by the next one.
    pub async fn reconcile(&self) {
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
        for (what, outcome) in [("overlay and networks", overlay), ("attachments", attachments)] {
            if let Err(error) = outcome {
                tracing::warn!(%error, "{what} could not be brought in line; the next pass tries again");
            }
        }
    }

    async fn reconcile_overlay(&self) -> Result<(), Error> {
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
                Ok(Some(_)) if which == Which::Drifted => tracing::info!(%handle, "plugged in again"),
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
