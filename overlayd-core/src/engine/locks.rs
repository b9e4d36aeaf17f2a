//! Locks by key: requests for the same object take their turn, requests for different objects do not meet.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::desired::{Handle, PeerId};

/// What a request works on. Locks are taken in the order of these variants; whoever holds nothing but a name or a peer may
/// ask for the overlay, too, since whoever holds the overlay takes neither.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// The global overlay's parameters.
    Overlay,
    /// A service: shared by its attachments, exclusive to its set-up and teardown.
    Service(String),
    /// An attachment.
    Handle(Handle),
    /// An edge peer.
    Edge(String),
    /// A registered name.
    Name(String),
    /// A peer.
    Peer(PeerId),
}

/// The locks in use; a key nobody holds costs nothing.
#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<HashMap<Key, Weak<RwLock<()>>>>);

impl Locks {
    pub(super) async fn shared(&self, key: Key) -> OwnedRwLockReadGuard<()> {
        self.lock_of(key).read_owned().await
    }

    pub(super) async fn exclusive(&self, key: Key) -> OwnedRwLockWriteGuard<()> {
        self.lock_of(key).write_owned().await
    }

    fn lock_of(&self, key: Key) -> Arc<RwLock<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        // Doubling sizes make the sweep cost a constant share per new key.
        if locks.len() == locks.capacity() {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::new(RwLock::new(()));
        locks.insert(key, Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_key_waits_and_another_does_not() {
        let locks = Locks::default();
        let held = locks.exclusive(Key::Handle(Handle::Process(1))).await;
        locks.exclusive(Key::Handle(Handle::Process(2))).await;
        let mut same = tokio_test_poll(locks.shared(Key::Handle(Handle::Process(1))));
        assert!(same.poll().is_none());
        drop(held);
        assert!(same.poll().is_some());
    }

    #[tokio::test]
    async fn keys_nobody_holds_are_forgotten() {
        let locks = Locks::default();
        for pid in 0..10_000 {
            locks.exclusive(Key::Handle(Handle::Process(pid))).await;
        }
        assert!(locks.0.lock().unwrap().len() < 64);
    }

    struct Polled<F>(std::pin::Pin<Box<F>>);

    impl<F: Future> Polled<F> {
        fn poll(&mut self) -> Option<F::Output> {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            match self.0.as_mut().poll(&mut context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            }
        }
    }

    fn tokio_test_poll<F: Future>(future: F) -> Polled<F> {
        Polled(Box::pin(future))
    }
}
