//! What happened on the daemon's socket, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that several tasks count up (and, for the one gauge, down).
#[derive(Debug, Default)]
pub struct AtomicCounter(AtomicU64);

impl AtomicCounter {
    /// The present value.
    pub fn get(&self) -> u64 {
        // Numbers for people: no other memory is read or written by their order.
        self.0.load(Ordering::Relaxed)
    }

    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts one less.
    pub fn sub_one(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What happened on the daemon's socket since it started.
#[derive(Debug, Default)]
pub struct SocketCounters {
    /// Connections that are open now (a gauge).
    pub open: AtomicCounter,
    /// Connections that were accepted and served.
    pub accepted: AtomicCounter,
    /// Connections refused for who called.
    pub refused: AtomicCounter,
    /// Connections refused because too many were open.
    pub over_limit: AtomicCounter,
    /// Calls to accept that failed, as for want of file descriptors.
    pub accept_failures: AtomicCounter,
    /// Requests that were answered, `err` included.
    pub requests: AtomicCounter,
    /// Requests that outlived their deadline.
    pub overdue: AtomicCounter,
    /// Bodies that were no frames, headers that were too long, frames that never ended.
    pub bad_frames: AtomicCounter,
    /// Events that a connection did not get because its client did not read.
    pub lost_events: AtomicCounter,
}
