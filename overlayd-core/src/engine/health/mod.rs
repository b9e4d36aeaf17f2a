//! What the daemon knows of how well it does: what the last pass could not do, and what was put right on the host.

mod report;

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

pub(super) use self::report::{PassReport, StepFailure};
use crate::{contract::Finding, protocol::DriftStatus, sync::lock};

/// Kept for `status`.
#[derive(Debug, Default)]
pub(super) struct EngineHealth {
    last_pass: Mutex<PassReport>,
    /// How often something was changed by another program, and put right.
    healed: AtomicU64,
    /// Containers that ended without being detached.
    ended: AtomicU64,
}

impl EngineHealth {
    /// Keeps what a pass could not do, until the next one. The start is the first pass.
    pub(super) fn keep(&self, report: PassReport) {
        // Replaced, not added to: what a later pass could do is no finding any more.
        *lock(&self.last_pass) = report;
    }

    /// What the last pass could not do.
    pub(super) fn findings(&self) -> Vec<Finding> {
        lock(&self.last_pass).findings().to_vec()
    }

    pub(super) fn count_healed(&self) {
        self.healed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// What was put right since the start; `None` is nothing.
    pub(super) fn drift(&self) -> Option<DriftStatus> {
        let status =
            DriftStatus { healed: self.healed.load(Ordering::Relaxed), ended: self.ended.load(Ordering::Relaxed) };
        (status != DriftStatus::default()).then_some(status)
    }
}
