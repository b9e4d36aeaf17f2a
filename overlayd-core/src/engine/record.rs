//! Write before you act: decide, apply, make durable; and take back as one.

use super::{Engine, Error};
use crate::{
    crash,
    desired::{Change, Desired},
};

/// The changes that take a recorded decision back, in the order to apply them.
#[derive(Debug)]
pub(super) struct Undo(Vec<Change>);

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
        crash::point("before", "commit").await;
        let (pending, undo, value) = {
            let mut desired = self.desired();
            let (changes, value) = decide(&mut desired)?;
            if changes.is_empty() {
                return Ok((Undo(Vec::new()), value));
            }
            // Queued under the mutex, so that the store sees transactions in the order of the decisions.
            let pending = self.store.commit(&changes);
            (pending, take_back(&mut desired, changes), value)
        };
        let outcome = pending.durable().await;
        crash::point("after", "commit").await;
        match outcome {
            Ok(()) => Ok((undo, value)),
            Err(error) => {
                tracing::error!(%error, "a change was refused because it could not be recorded");
                take_back(&mut self.desired(), undo.0);
                Err(error.into())
            }
        }
    }

    /// Takes a decision back, durably.
    pub(super) async fn withdraw(&self, undo: Undo) -> Result<(), Error> {
        self.record(|_| Ok(undo.0)).await
    }
}

fn take_back(desired: &mut Desired, changes: Vec<Change>) -> Undo {
    let mut undo: Vec<Change> = changes.into_iter().map(|change| desired.apply(change)).collect();
    undo.reverse();
    Undo(undo)
}
