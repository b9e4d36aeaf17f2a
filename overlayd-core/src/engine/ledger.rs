//! Write before you act: decide, apply, make durable; and take back as one.

use std::sync::{Mutex, MutexGuard};

use super::Error;
use crate::{
    crash,
    desired::{Change, Desired, undo},
    store::{Pending, Store},
    sync::lock,
};

/// What was asked for, in memory and on disk. Decisions are made in memory under a mutex that is held for microseconds.
#[derive(Debug)]
pub(super) struct Ledger {
    desired: Mutex<Desired>,
    store: Store,
}

/// The changes that take a recorded decision back, in the order to apply them.
#[derive(Debug)]
pub(super) struct Undo(Vec<Change>);

/// A decision that is made, and on its way to the disk.
#[derive(Debug)]
#[must_use = "nothing may be done, nor answered, before a decision is durable"]
pub(super) struct Decision<T> {
    /// `None` where there was nothing to change.
    pending: Option<Pending>,
    undo: Undo,
    value: T,
}

impl Ledger {
    pub(super) fn new(store: Store, records: Vec<Change>) -> Self {
        Self { desired: Mutex::new(Desired::load(records)), store }
    }

    /// What is asked for now. It is held for decisions alone, never while the host or the disk is waited for.
    pub(super) fn desired(&self) -> MutexGuard<'_, Desired> {
        lock(&self.desired)
    }

    /// Whether a request waits for its change to become durable.
    pub(super) fn is_recording(&self) -> bool {
        !self.store.is_idle()
    }

    /// Decides on the desired state and records the changes, for decisions that are never taken back.
    pub(super) async fn record(
        &self,
        decide: impl FnOnce(&mut Desired) -> Result<Vec<Change>, Error>,
    ) -> Result<(), Error> {
        self.decide(|desired| Ok((decide(desired)?, ()))).await.map(|_| ())
    }

    /// Decides on the desired state, applies the changes and waits until they are durable. Either all of them are, or
    /// none is applied.
    pub(super) async fn decide<T>(
        &self,
        decide: impl FnOnce(&mut Desired) -> Result<(Vec<Change>, T), Error>,
    ) -> Result<(Undo, T), Error> {
        let decision = self.decide_now(decide).await?;
        self.durable(decision).await
    }

    /// Decides on the desired state and applies the changes, whose way to the disk begins.
    pub(super) async fn decide_now<T>(
        &self,
        decide: impl FnOnce(&mut Desired) -> Result<(Vec<Change>, T), Error>,
    ) -> Result<Decision<T>, Error> {
        crash::point("before", "commit").await;
        let mut desired = self.desired();
        // A refusal returns here, and nothing was changed: `decide` only looks at the state and picks addresses.
        let (changes, value) = decide(&mut desired)?;
        if changes.is_empty() {
            return Ok(Decision { pending: None, undo: Undo(Vec::new()), value });
        }
        // Queued under the mutex, so that the store sees transactions in the order of the decisions.
        let pending = Some(self.store.commit(&changes));
        Ok(Decision { pending, undo: apply(&mut desired, changes), value })
    }

    /// Waits until what was decided is durable, or takes it back.
    pub(super) async fn durable<T>(&self, decision: Decision<T>) -> Result<(Undo, T), Error> {
        let Decision { pending, undo, value } = decision;
        let Some(pending) = pending else { return Ok((undo, value)) };
        let outcome = pending.durable().await;
        crash::point("after", "commit").await;
        match outcome {
            Ok(()) => Ok((undo, value)),
            Err(error) => {
                tracing::error!(%error, "a change was refused because it could not be recorded");
                let mut desired = self.desired();
                // Other requests may have changed the same peers while the disk failed.
                let changes = undo::as_of_now(&desired, undo.0);
                apply(&mut desired, changes);
                Err(error.into())
            }
        }
    }

    /// Takes a decision back, durably.
    pub(super) async fn withdraw(&self, undo: Undo) -> Result<(), Error> {
        self.record(|desired| Ok(undo::as_of_now(desired, undo.0))).await
    }

    /// Makes the change that `decide` returns, and does not wait until it is durable: for what the next start finds out
    /// by itself.
    pub(super) fn note<T>(&self, decide: impl FnOnce(&Desired) -> (Option<Change>, T)) -> T {
        let mut desired = self.desired();
        let (change, value) = decide(&desired);
        if let Some(change) = change {
            // In the order of the decisions here as well, since the mutex is held.
            self.store.commit_in_passing(std::slice::from_ref(&change));
            desired.apply(change);
        }
        value
    }
}

/// Applies the changes in order, and returns what takes them back.
fn apply(desired: &mut Desired, changes: Vec<Change>) -> Undo {
    let mut undo: Vec<Change> = changes.into_iter().map(|change| desired.apply(change)).collect();
    undo.reverse();
    Undo(undo)
}
