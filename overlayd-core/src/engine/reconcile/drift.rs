//! What backends report of drift, put right at once: one pass for what many depend on, one look for each attachment that
//! is named. One line in the log says what happened, and how long it took.

use std::{collections::BTreeSet, time::Instant};

use super::Reconciler;
use crate::{
    contract::{Drift, DriftReason},
    engine::attachments::AttachmentState,
};

impl Reconciler {
    /// Puts right what was reported, and counts it.
    pub(super) async fn heal(&self, drift: Drift) {
        let started = Instant::now();
        let Drift { changed: mut reasons, attachments } = drift;
        // A report about one attachment needs no pass: with many containers, most reports are of one that has ended.
        let mut is_in_line = reasons.is_empty() || self.pass().await;
        for (id, what) in attachments {
            match self.areas.attachments.look_after(&id).await {
                Ok(AttachmentState::Unknown) => {}
                Ok(AttachmentState::PluggedIn) => drop(reasons.insert(what)),
                Ok(AttachmentState::Ended) => {
                    self.health.count_ended();
                    tracing::info!(container = %id, %what, "a container ended and was detached; its addresses rest");
                }
                Err(error) => {
                    is_in_line = false;
                    tracing::warn!(container = %id, %what, %error, "could not be put right; the next pass tries again");
                }
            }
        }
        if !reasons.is_empty() && is_in_line {
            self.health.count_healed();
            let took_ms = started.elapsed().as_millis();
            tracing::warn!(what = listed(&reasons), took_ms, "another program changed the host; it is put right");
        }
    }
}

fn listed(reasons: &BTreeSet<DriftReason>) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
