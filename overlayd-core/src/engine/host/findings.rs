//! What backends found on the host, as last observed.

use std::sync::Mutex;

use crate::{contract::Finding, sync::lock};

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct HostFindings(Mutex<Vec<Finding>>);

impl HostFindings {
    /// Notes what is there now, and logs what was not there before.
    pub(super) fn note(&self, found: &[Finding]) {
        let mut known = lock(&self.0);
        for Finding { code, subject, text, remedy, .. } in found.iter().filter(|finding| !known.contains(finding)) {
            tracing::warn!(%code, %subject, remedy, "{text}");
        }
        for Finding { code, subject, text, .. } in known.iter().filter(|finding| !found.contains(finding)) {
            tracing::info!(%code, %subject, "no longer so: {text}");
        }
        found.clone_into(&mut known);
    }

    /// What was seen last.
    pub(super) fn list(&self) -> Vec<Finding> {
        lock(&self.0).clone()
    }
}
