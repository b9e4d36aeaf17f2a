use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// Says whether a thread may take from a descriptor that another process reads from before or after.
pub(crate) struct ReadGate {
    open: AtomicBool,
    inside: Mutex<()>,
}

/// Whether a gate is open when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GateState {
    Open,
    Closed,
}

impl ReadGate {
    pub(super) fn new(stands: GateState) -> Self {
        Self { open: AtomicBool::new(stands == GateState::Open), inside: Mutex::default() }
    }

    /// Goes in, if it is open, for one batch: what is taken is to be dealt with before the guard is dropped.
    pub(super) fn enter(&self) -> Option<MutexGuard<'_, ()>> {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        self.open.load(Ordering::Acquire).then_some(inside)
    }

    /// Whether it is open now.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Closes it and waits until nobody is inside.
    pub(super) fn close(&self) {
        self.open.store(false, Ordering::Release);
        drop(self.inside.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
