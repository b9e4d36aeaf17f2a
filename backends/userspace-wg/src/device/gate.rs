use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

use overlayd_core::sync::lock;

/// Says whether this process may read from the interface, or from the sockets. In a handover two processes hold the same
/// ones, and at any moment one of them reads.
pub(crate) struct ReadGate {
    open: AtomicBool,
    reading: Mutex<()>,
}

/// Whether a gate is open when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GateState {
    /// This process reads.
    Open,
    /// An older process still reads.
    Closed,
}

impl ReadGate {
    pub(super) fn new(state: GateState) -> Self {
        Self { open: AtomicBool::new(state == GateState::Open), reading: Mutex::default() }
    }

    /// Permits one batch, if the gate is open. What is read must be sent on before the guard is dropped.
    pub(super) fn enter(&self) -> Option<MutexGuard<'_, ()>> {
        let reading = lock(&self.reading);
        // Looked at with the lock held: `close` takes the lock after it has closed, so either it waits for this batch
        // or this batch sees that the gate is closed.
        self.open.load(Ordering::Acquire).then_some(reading)
    }

    /// Whether the gate is open now.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Closes the gate and waits for the batch that is under way.
    pub(super) fn close(&self) {
        self.open.store(false, Ordering::Release);
        drop(lock(&self.reading));
    }
}
