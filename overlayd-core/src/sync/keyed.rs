//! One lock per key: work on the same object runs in the order of its requests, work on different objects side by side.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, Weak},
};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::lock;

/// One lock per key. A key that has no holder takes no memory for long.
#[derive(Debug)]
pub struct KeyedLocks<K> {
    locks: Mutex<HashMap<K, Weak<RwLock<()>>>>,
}

impl<K> Default for KeyedLocks<K> {
    fn default() -> Self {
        Self { locks: Mutex::default() }
    }
}

impl<K: Eq + Hash> KeyedLocks<K> {
    /// Waits until the key has no exclusive holder. The guard may move to another thread.
    pub async fn shared(&self, key: K) -> OwnedRwLockReadGuard<()> {
        self.lock_of(key).read_owned().await
    }

    /// Waits until the key has no other holder. The guard may move to another thread.
    pub async fn exclusive(&self, key: K) -> OwnedRwLockWriteGuard<()> {
        self.lock_of(key).write_owned().await
    }

    /// Whether the key has an exclusive holder at this moment.
    pub fn is_held(&self, key: &K) -> bool {
        let found = lock(&self.locks).get(key).and_then(Weak::upgrade);
        found.is_some_and(|lock| lock.try_read().is_err())
    }

    fn lock_of(&self, key: K) -> Arc<RwLock<()>> {
        let mut locks = lock(&self.locks);
        if let Some(lock) = locks.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        // The map doubles when it is full, so that a sweep at that moment costs a constant share for each new key.
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
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn is_ready(future: std::pin::Pin<&mut impl Future>) -> bool {
        matches!(future.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_))
    }

    #[tokio::test]
    async fn the_same_key_waits_and_another_does_not() {
        let locks = KeyedLocks::default();
        let held = locks.exclusive(1).await;
        locks.exclusive(2).await;
        let mut same = pin!(locks.shared(1));
        assert!(!is_ready(same.as_mut()));
        assert!(locks.is_held(&1) && !locks.is_held(&2));
        drop(held);
        assert!(is_ready(same.as_mut()));
    }

    #[tokio::test]
    async fn keys_without_a_holder_are_forgotten() {
        let locks = KeyedLocks::default();
        for key in 0..10_000 {
            locks.exclusive(key).await;
        }
        assert!(lock(&locks.locks).len() < 64);
    }
}
