//! What others on this host have put in our packets' way.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Obstacles(Mutex<Vec<String>>);

impl Obstacles {
    /// Notes what is there now, and says so where it was not there before.
    pub(super) fn note(&self, found: &[String]) {
        let mut known = self.lock();
        for obstacle in found.iter().filter(|obstacle| !known.contains(obstacle)) {
            tracing::warn!(obstacle, "rules of others may drop packets of the overlay: let them accept its interfaces");
        }
        for obstacle in known.iter().filter(|obstacle| !found.contains(obstacle)) {
            tracing::info!(obstacle, "rules of others are out of the way");
        }
        found.clone_into(&mut known);
    }

    /// What was seen last.
    pub(super) fn list(&self) -> Vec<String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
