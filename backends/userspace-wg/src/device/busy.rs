use std::sync::atomic::{AtomicU32, Ordering};

/// Packets in one go that are no reason to wake another thread.
pub(super) const FEW_PACKETS: usize = 4;
/// Quiet rounds in a row after which one thread is enough again.
const QUIET_ROUNDS: u32 = 16;

/// Whether there is enough to do for two threads; counts the quiet rounds in a row.
///
/// One thread for both directions saves a wake-up for each packet and its answer, which is most of what a ping or a
/// small request costs. Two threads carry more.
pub(super) struct BusyTracker(AtomicU32);

impl BusyTracker {
    pub(super) fn quiet() -> Self {
        Self(QUIET_ROUNDS.into())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.0.load(Ordering::Acquire) < QUIET_ROUNDS
    }

    /// There were more than a few packets. Returns whether it was quiet until now.
    pub(super) fn saw_many(&self) -> bool {
        self.0.swap(0, Ordering::AcqRel) >= QUIET_ROUNDS
    }

    /// There were only a few packets. Returns whether it is quiet from now on.
    pub(super) fn saw_few(&self) -> bool {
        // Equality, not `>=`: of all rounds exactly one changes the state, and only that one wakes the other thread.
        self.0.fetch_add(1, Ordering::AcqRel) == QUIET_ROUNDS - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_packets_once_make_it_busy_and_only_a_few_for_some_time_make_it_quiet() {
        let tracker = BusyTracker::quiet();
        assert!(!tracker.is_busy() && !tracker.saw_few(), "it is quiet already");
        assert!(tracker.saw_many() && tracker.is_busy());
        assert!(!tracker.saw_many(), "it was busy already");
        for _ in 1..QUIET_ROUNDS {
            assert!(!tracker.saw_few() && tracker.is_busy());
        }
        assert!(!tracker.saw_many(), "many packets in between, so the count begins anew");
        for _ in 1..QUIET_ROUNDS {
            assert!(!tracker.saw_few() && tracker.is_busy());
        }
        assert!(tracker.saw_few() && !tracker.is_busy());
    }
}
