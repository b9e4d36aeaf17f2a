//! What backends tell of drift, put right at once: one pass for what many depend on, one look for each attachment that
//! is named. One line in the log says what happened, and how long it took.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use super::{Engine, Error, locks::Key};
use crate::{
    contract::{AttachmentId, Drift, DriftReason},
    desired::Handle,
    protocol::DriftStatus,
};

/// What was put right since the start.
#[derive(Debug, Default)]
pub(super) struct Healed {
    changed: AtomicU64,
    ended: AtomicU64,
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The host is as asked for.
    InLine,
    /// Something failed, and the log says what.
    Failed,
}

impl Engine {
    /// Puts right what was told, and counts it.
    pub(super) async fn heal(&self, drift: Drift) {
        let started = Instant::now();
        let Drift { changed, attachments } = drift;
        let mut reasons = changed;
        let mut outcome = Outcome::InLine;
        if !reasons.is_empty() {
            outcome = self.pass().await;
        }
        for (id, what) in attachments {
            match self.look_after(&id).await {
                Ok(Look::NotOurs) => {}
                Ok(Look::PluggedIn) => drop(reasons.insert(what)),
                Ok(Look::Ended) => {
                    self.healed.ended.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(container = %id, %what, "a container ended and was detached; its addresses rest");
                }
                Err(error) => {
                    outcome = Outcome::Failed;
                    tracing::warn!(container = %id, %what, %error, "could not be put right; the next pass tries again");
                }
            }
        }
        if !reasons.is_empty() && outcome == Outcome::InLine {
            self.healed.changed.fetch_add(1, Ordering::Relaxed);
            let took_ms = started.elapsed().as_millis();
            tracing::warn!(what = listed(&reasons), took_ms, "the host was changed by somebody else; it is put right");
        }
    }

    /// Plugs one attachment in as recorded, or forgets it with its container. One that lost nothing stays as it is.
    async fn look_after(&self, id: &AttachmentId) -> Result<Look, Error> {
        let _world = self.world.read().await;
        let Some(handle) = handle_of(id) else { return Ok(Look::NotOurs) };
        let Some(service) = self.desired().attachment(&handle).map(|record| record.service.clone()) else {
            return Ok(Look::NotOurs);
        };
        let _service = self.locks.shared(Key::Service(service)).await;
        let _handle = self.locks.exclusive(Key::Handle(handle.clone())).await;
        if self.desired().attachment(&handle).is_none() {
            return Ok(Look::NotOurs);
        }
        Ok(self.replug(&handle).await?.map_or(Look::Ended, |_| Look::PluggedIn))
    }

    pub(super) fn drift_status(&self) -> Option<DriftStatus> {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let status = DriftStatus { healed: count(&self.healed.changed), ended: count(&self.healed.ended) };
        (status != DriftStatus::default()).then_some(status)
    }
}

/// How an attachment was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Nobody asked for it, or it was detached meanwhile.
    NotOurs,
    /// It is plugged in.
    PluggedIn,
    /// Its container is gone, and so is the attachment now.
    Ended,
}

fn handle_of(id: &AttachmentId) -> Option<Handle> {
    match id {
        AttachmentId::Process(pid) => Some(Handle::Process(*pid)),
        AttachmentId::Namespace(id) => Some(Handle::Namespace(id.clone())),
        AttachmentId::Compute(id) => Some(Handle::Compute(id.clone())),
        AttachmentId::Guest(id) => Some(Handle::Guest(id.clone())),
        AttachmentId::Host(id) => Some(Handle::Host(id.clone())),
        AttachmentId::ComputeNamespace(_) | AttachmentId::Edge(_) => None,
    }
}

fn listed(reasons: &BTreeSet<DriftReason>) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
