use std::{cmp::Reverse, collections::BinaryHeap};

use super::{peer_id::PeerId, time::SteadyTime};

/// The peers that have something to do, by when.
///
/// A deadline that moves to a later time (every packet does that) leaves its old entry in place; when that one comes
/// up, the peer is asked again. So a packet costs a comparison, and an idle peer has no entry at all.
#[derive(Debug, Default)]
pub(crate) struct DeadlineQueue(BinaryHeap<Reverse<(SteadyTime, PeerId)>>);

impl DeadlineQueue {
    /// Wakes `peer` at `at`.
    pub(crate) fn add(&mut self, at: SteadyTime, peer: PeerId) {
        // The heap has the greatest entry on top; `Reverse` makes that the earliest.
        self.0.push(Reverse((at, peer)));
    }

    /// The earliest entry.
    pub(crate) fn next(&self) -> Option<SteadyTime> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the earliest entry that has come up by `now`.
    pub(crate) fn take_due(&mut self, now: SteadyTime) -> Option<(SteadyTime, PeerId)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
