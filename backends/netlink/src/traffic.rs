//! How much this process has said to the kernel and heard from it, for tests that count what a call costs.

use std::sync::atomic::{AtomicU64, Ordering};

static REQUESTS: AtomicU64 = AtomicU64::new(0);
static ANSWERS: AtomicU64 = AtomicU64::new(0);

/// Messages since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Requests to the routing interface and to nftables.
    pub requests: u64,
    /// Messages of their answers: one for each object of a listing.
    pub answers: u64,
}

impl Traffic {
    /// Of all threads, until now.
    pub fn so_far() -> Self {
        Self { requests: REQUESTS.load(Ordering::Relaxed), answers: ANSWERS.load(Ordering::Relaxed) }
    }

    /// What has been added since.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { requests: self.requests - before.requests, answers: self.answers - before.answers }
    }
}

pub(crate) fn said(requests: usize) {
    REQUESTS.fetch_add(requests as u64, Ordering::Relaxed);
}

pub(crate) fn heard(answers: usize) {
    ANSWERS.fetch_add(answers as u64, Ordering::Relaxed);
}
