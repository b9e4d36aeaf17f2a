//! Locks and blocking work, for all crates of the workspace: how a mutex is taken, one lock per key, and where calls that
//! wait for the host run.

mod keyed;

use std::sync::{LockResult, Mutex, MutexGuard, PoisonError};

pub use keyed::KeyedLocks;

use crate::contract::{Error, Result};

/// Takes a mutex, also after a holder has panicked.
///
/// A panic ends one request and not the daemon. What the holders of these mutexes guard is valid after every single
/// statement, so that the next holder can go on with it.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    unpoisoned(mutex.lock())
}

/// The guard of a lock or of a wait on a condition variable, also after a holder has panicked.
pub fn unpoisoned<G>(outcome: LockResult<G>) -> G {
    outcome.unwrap_or_else(PoisonError::into_inner)
}

/// Runs work that may wait for the host on a thread where it holds up no other task. `action` says in errors what it is,
/// as `work on a WireGuard device`.
///
/// The work goes on to its end when the caller gives up; locks that it carries make the next caller wait for that.
pub async fn run_blocking<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(panicked) => Err(Error::host(action, std::io::Error::other(panicked))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutex_is_taken_after_a_panic() {
        let mutex = Mutex::new(1);
        let panicked = std::thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let _held = mutex.lock().unwrap();
                panic!("the holder fails");
            });
            holder.join().is_err()
        });
        assert!(panicked && mutex.is_poisoned());
        assert_eq!(*lock(&mutex), 1);
    }

    #[tokio::test]
    async fn a_panic_in_blocking_work_is_an_error_of_the_call() {
        let outcome: Result<()> = run_blocking("look at the host", || panic!("the work fails")).await;
        let error = outcome.unwrap_err().to_string();
        assert!(error.starts_with("could not look at the host: "), "{error}");
    }
}
