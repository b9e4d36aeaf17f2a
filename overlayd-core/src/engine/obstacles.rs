//! What backends found on the host, as last observed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::contract::Finding;

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Obstacles(Mutex<Vec<Finding>>);

impl Obstacles {
    /// Notes what is there now, and says so where it was not there before.
    pub(super) fn note(&self, found: &[Finding]) {
        let mut known = self.lock();
        for Finding { code, subject, text, remedy, .. } in found.iter().filter(|finding| !known.contains(finding)) {
            tracing::warn!(%code, %subject, remedy, "{text}");
        }
        for Finding { code, subject, text, .. } in known.iter().filter(|finding| !found.contains(finding)) {
            tracing::info!(%code, %subject, "no longer so: {text}");
        }
        found.clone_into(&mut known);
    }

    /// Rules of others that may stop packets, in the words of the member `obstacles` of `status`.
    pub(super) fn list(&self) -> Vec<String> {
        self.lock().iter().filter(|finding| finding.code.is_obstacle()).map(|finding| finding.text.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Finding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
