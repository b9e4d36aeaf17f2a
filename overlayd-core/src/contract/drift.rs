use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::AttachmentId;

/// Most reasons that are kept until somebody looks; beyond these a look is due anyway.
const MOST_REASONS: usize = 32;

/// How backends tell that something of ours was changed by somebody else. Whoever makes the backends gives each a clone
/// of one signal, and the engine another; telling never waits.
///
/// It is only a hint to look at once: what a backend cannot notice is found by the periodic pass.
#[derive(Debug, Clone, Default)]
pub struct DriftSignal(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    drift: Mutex<Drift>,
    told: Notify,
}

/// What was told since the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// What happened to devices, networks and rules, in words for the log.
    pub changed: BTreeSet<String>,
    /// The attachments that lost something or whose container ended, and what happened to each.
    pub attachments: BTreeMap<AttachmentId, String>,
}

impl DriftSignal {
    /// Something that many attachments may depend on is not as it was left: `what` says which and how.
    pub fn changed(&self, what: impl Into<String>) {
        let mut drift = self.drift();
        if drift.changed.len() < MOST_REASONS {
            drift.changed.insert(what.into());
        }
        drop(drift);
        self.0.told.notify_one();
    }

    /// One attachment is not as it was left, or its container ended; `what` says how.
    pub fn attachment(&self, id: AttachmentId, what: impl Into<String>) {
        self.drift().attachments.insert(id, what.into());
        self.0.told.notify_one();
    }

    /// Waits until something is told and takes it all.
    pub async fn next(&self) -> Drift {
        loop {
            let drift = self.take();
            if drift != Drift::default() {
                return drift;
            }
            self.0.told.notified().await;
        }
    }

    /// Takes what is told so far, without waiting.
    pub fn take(&self) -> Drift {
        std::mem::take(&mut *self.drift())
    }

    fn drift(&self) -> MutexGuard<'_, Drift> {
        self.0.drift.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drift {
    /// Adds what was told later.
    pub fn merge(&mut self, later: Self) {
        self.changed.extend(later.changed);
        self.attachments.extend(later.attachments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_told_between_two_looks_arrives_as_one() {
        let signal = DriftSignal::default();
        let told = signal.clone();
        told.changed("the bridge is gone");
        told.changed("the bridge is gone");
        told.attachment(AttachmentId::Process(7), "its process ended");
        let drift = signal.next().await;
        assert_eq!((drift.changed.len(), drift.attachments.len()), (1, 1));
        let waiting = tokio::spawn(async move { signal.next().await });
        told.changed("the table is gone");
        assert_eq!(waiting.await.unwrap().changed.len(), 1);
    }

    #[tokio::test]
    async fn a_storm_of_reasons_takes_no_more_room_than_a_few() {
        let signal = DriftSignal::default();
        for number in 0..10_000 {
            signal.changed(format!("address {number} is gone"));
        }
        assert_eq!(signal.next().await.changed.len(), MOST_REASONS);
    }
}
