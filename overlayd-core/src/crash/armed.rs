//! Points of requests that run under a plan; those of a whole process are in [`super::process`].

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use tokio::sync::watch;

tokio::task_local! {
    static PLAN: Plan;
}

/// Counts the points that work passes, and ends it at one of them: there, and at every later one, it waits for ever.
/// Clones share the count.
#[derive(Debug, Clone)]
pub struct Plan {
    seen: Arc<Mutex<Vec<String>>>,
    /// The point to end at, from 1; `None` only counts.
    at: Option<usize>,
    turns: Turns,
    crashed: watch::Sender<bool>,
}

/// Who goes on at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turns {
    Kept,
    Given,
}

impl Plan {
    /// Lets the work run to its end, and notes what it passes.
    pub fn trace() -> Self {
        Self { seen: Arc::default(), at: None, turns: Turns::Kept, crashed: watch::Sender::new(false) }
    }

    /// Lets the work run to its end, and others go first at every point.
    pub fn in_turns() -> Self {
        Self { turns: Turns::Given, ..Self::trace() }
    }

    /// Ends the work at the `n`th point, from 1.
    pub fn at(n: usize) -> Self {
        Self { at: Some(n), ..Self::trace() }
    }

    /// Runs the work; `None` when it was ended. What it started in other tasks is not under the plan.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut crashed = self.crashed.subscribe();
        let work = PLAN.scope(self.clone(), work);
        tokio::select! {
            biased;
            // The sender lives in `self`, so waiting cannot fail.
            _ = crashed.wait_for(|crashed| *crashed) => None,
            output = work => Some(output),
        }
    }

    /// The points that were passed, in order.
    pub fn seen(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// Whether the work was ended.
    pub fn has_crashed(&self) -> bool {
        *self.crashed.borrow()
    }

    /// Whether the work ends here.
    fn reach(&self, side: &str, what: &str) -> bool {
        let mut seen = self.lock();
        if !self.has_crashed() {
            seen.push(format!("{side} {what}"));
            if self.at == Some(seen.len()) {
                self.crashed.send_replace(true);
            }
        }
        self.has_crashed()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A point `side` (as `before`) of `what` (as `attach`), in asynchronous work.
pub async fn point(side: &'static str, what: &'static str) {
    match PLAN.try_with(Clone::clone) {
        Ok(plan) if plan.reach(side, what) => std::future::pending().await,
        Ok(plan) if plan.turns == Turns::Given => pause().await,
        Ok(_) => {}
        Err(_) => super::process::reach(side, what),
    }
}

/// The task that polls has the choice which one goes on.
async fn pause() {
    let mut paused = false;
    poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A point after `what`, in work that blocks.
pub fn step(what: &str) {
    super::process::reach("after", what);
}
