//! How backends tell that another program changed something that overlayd made, so that it is put right at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::AttachmentId;

/// Most reasons that are kept until the engine looks. A look puts everything right, so that further reasons only cost
/// memory while a program changes one thing after another.
const MOST_REASONS: usize = 32;

/// By which backends tell of drift. The program that makes the backends gives each of them a clone of one signal, and
/// the engine another. Telling never waits.
///
/// It is only a hint to look at once: what a backend cannot notice is found by the periodic pass.
#[derive(Debug, Clone, Default)]
pub struct DriftSignal(Arc<DriftQueue>);

#[derive(Debug, Default)]
struct DriftQueue {
    drift: Mutex<Drift>,
    told: Notify,
}

/// What was told since the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// What happened to devices, networks and rules, on which many attachments may depend.
    pub changed: BTreeSet<DriftReason>,
    /// The attachments that lost something or whose container ended, and what happened to each.
    pub attachments: BTreeMap<AttachmentId, DriftReason>,
}

/// What another program did, and to what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DriftReason {
    /// An interface that carries our mark was changed.
    Interface {
        /// Its name, as the host has it.
        name: String,
        /// What happened to it.
        change: InterfaceChange,
    },
    /// Rules in our table were changed.
    Rules {
        /// Where they are, as `nftables table inet zl`.
        table: String,
    },
    /// The process of a container ended.
    ProcessEnded,
    /// More happened at once than the host could tell, so that anything may have changed.
    EventsLost,
}

/// What happened to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InterfaceChange {
    /// It was deleted.
    Deleted,
    /// It was set down.
    Down,
    /// It was taken off its bridge.
    Unplugged,
    /// It lost an address.
    LostAddress,
    /// It lost a route.
    LostRoute,
    /// It lost the mark by which overlayd knows it.
    LostMark,
    /// It was configured through its control socket.
    Configured,
}

impl fmt::Display for InterfaceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deleted => "was deleted",
            Self::Down => "was set down",
            Self::Unplugged => "was taken off its bridge",
            Self::LostAddress => "lost an address",
            Self::LostRoute => "lost a route",
            Self::LostMark => "lost its mark",
            Self::Configured => "was changed through its control socket",
        })
    }
}

impl fmt::Display for DriftReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface { name, change } => write!(f, "{name} {change}"),
            Self::Rules { table } => write!(f, "{table} was changed"),
            Self::ProcessEnded => f.write_str("its process ended"),
            Self::EventsLost => f.write_str("more was changed at once than could be followed"),
        }
    }
}

impl DriftSignal {
    /// Something that many attachments may depend on is not as it was left.
    pub fn changed(&self, reason: DriftReason) {
        let mut drift = self.drift();
        if drift.changed.len() < MOST_REASONS {
            drift.changed.insert(reason);
        }
        drop(drift);
        self.0.told.notify_one();
    }

    /// One attachment is not as it was left, or its container ended.
    pub fn attachment(&self, id: AttachmentId, reason: DriftReason) {
        self.drift().attachments.insert(id, reason);
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

    fn deleted(name: &str) -> DriftReason {
        DriftReason::Interface { name: name.into(), change: InterfaceChange::Deleted }
    }

    #[tokio::test]
    async fn what_is_told_between_two_looks_arrives_as_one() {
        let signal = DriftSignal::default();
        let told = signal.clone();
        told.changed(deleted("zl-web-b"));
        told.changed(deleted("zl-web-b"));
        told.attachment(AttachmentId::Process(7), DriftReason::ProcessEnded);
        let drift = signal.next().await;
        assert_eq!((drift.changed.len(), drift.attachments.len()), (1, 1));
        let waiting = tokio::spawn(async move { signal.next().await });
        told.changed(DriftReason::EventsLost);
        assert_eq!(waiting.await.unwrap().changed.len(), 1);
    }

    #[tokio::test]
    async fn a_storm_of_reasons_takes_no_more_room_than_a_few() {
        let signal = DriftSignal::default();
        for number in 0..10_000 {
            signal.changed(deleted(&format!("veth-{number}-s")));
        }
        assert_eq!(signal.next().await.changed.len(), MOST_REASONS);
    }
}
