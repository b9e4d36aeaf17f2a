//! Write before you act: decide, apply, make durable; and take back as one.

use super::{Engine, Error, peers};
use crate::{
    crash,
    desired::{Change, Desired},
    store::Pending,
};

/// The changes that take a recorded decision back, in the order to apply them.
#[derive(Debug)]
pub(super) struct Undo(Vec<Change>);

/// A decision that is made, and on its way to the disk.
#[derive(Debug)]
#[must_use = "nothing may be done, nor answered, before a decision is durable"]
pub(super) struct Decided<T> {
    /// `None` where there was nothing to change.
    pending: Option<Pending>,
    undo: Undo,
    value: T,
}

impl Engine {
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
        let decided = self.decide_now(decide).await?;
        self.durable(decided).await
    }

    /// Decides on the desired state and applies the changes, whose way to the disk begins.
    pub(super) async fn decide_now<T>(
        &self,
        decide: impl FnOnce(&mut Desired) -> Result<(Vec<Change>, T), Error>,
    ) -> Result<Decided<T>, Error> {
        crash::point("before", "commit").await;
        let mut desired = self.desired();
        let (changes, value) = decide(&mut desired)?;
        if changes.is_empty() {
            return Ok(Decided { pending: None, undo: Undo(Vec::new()), value });
        }
        // Queued under the mutex, so that the store sees transactions in the order of the decisions.
        let pending = Some(self.store.commit(&changes));
        Ok(Decided { pending, undo: take_back(&mut desired, changes), value })
    }

    /// Waits until what was decided is durable, or takes it back.
    pub(super) async fn durable<T>(&self, decided: Decided<T>) -> Result<(Undo, T), Error> {
        let Decided { pending, undo, value } = decided;
        let Some(pending) = pending else { return Ok((undo, value)) };
        let outcome = pending.durable().await;
        crash::point("after", "commit").await;
        match outcome {
            Ok(()) => Ok((undo, value)),
            Err(error) => {
                tracing::error!(%error, "a change was refused because it could not be recorded");
                let mut desired = self.desired();
                let changes = peers::as_of_now(&desired, undo.0);
                take_back(&mut desired, changes);
                Err(error.into())
            }
        }
    }

    /// Takes a decision back, durably.
    pub(super) async fn withdraw(&self, undo: Undo) -> Result<(), Error> {
        self.record(|desired| Ok(peers::as_of_now(desired, undo.0))).await
    }
}

fn take_back(desired: &mut Desired, changes: Vec<Change>) -> Undo {
    let mut undo: Vec<Change> = changes.into_iter().map(|change| desired.apply(change)).collect();
    undo.reverse();
    Undo(undo)
}
