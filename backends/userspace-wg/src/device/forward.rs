//! What an older process passes to its successor while both have the same device.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use overlayd_core::sync::lock;

use crate::noise::SuccessorTraffic;

/// Takes traffic to the successor.
pub(crate) trait ForwardTraffic: Send + Sync {
    /// Sends one datagram or packet.
    fn forward(&self, item: &SuccessorTraffic) -> io::Result<()>;
}

/// The way to the successor, while there is one.
#[derive(Default)]
pub(super) struct SuccessorLink {
    /// Looked at after each batch of packets, where a lock would cost too much.
    connected: AtomicBool,
    successor: Mutex<Option<Arc<dyn ForwardTraffic>>>,
}

impl SuccessorLink {
    pub(super) fn connect(&self, successor: Arc<dyn ForwardTraffic>) {
        *lock(&self.successor) = Some(successor);
        self.connected.store(true, Ordering::Release);
    }

    pub(super) fn disconnect(&self) {
        self.connected.store(false, Ordering::Release);
        *lock(&self.successor) = None;
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Sends what `take` returns to the successor; returns how much was lost.
    pub(super) fn forward(&self, take: impl FnOnce() -> Vec<SuccessorTraffic>) -> u64 {
        let successor = lock(&self.successor);
        let Some(successor) = &*successor else { return 0 };
        // Taken with this lock held: two threads that took first and sent later could send in the other order.
        take().iter().filter(|item| successor.forward(item).is_err()).count() as u64
    }
}
