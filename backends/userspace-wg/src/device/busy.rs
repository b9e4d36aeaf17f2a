use std::sync::atomic::{AtomicU32, Ordering};

/// Packets in one go that are no reason to wake another thread.
pub(super) const FEW_PACKETS: usize = 4;
/// So often in a row there are only a few before one thread is enough again.
const CALM: u32 = 16;

/// Whether there is enough to do for two threads: how often in a row there was not.
pub(super) struct BusyTracker(AtomicU32);

impl BusyTracker {
    pub(super) fn calm() -> Self {
        Self(CALM.into())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.0.load(Ordering::Acquire) < CALM
    }

    /// There were more than a few packets. Says whether it was calm until now.
    pub(super) fn saw_many(&self) -> bool {
        self.0.swap(0, Ordering::AcqRel) >= CALM
    }

    /// There were only a few. Says whether it is calm from now on.
    pub(super) fn saw_few(&self) -> bool {
        self.0.fetch_add(1, Ordering::AcqRel) == CALM - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_packets_once_make_it_busy_and_only_a_few_for_some_time_make_it_calm() {
        let pace = BusyTracker::calm();
        assert!(!pace.is_busy() && !pace.saw_few(), "it is calm already");
        assert!(pace.saw_many() && pace.is_busy());
        assert!(!pace.saw_many(), "it was busy already");
        for _ in 1..CALM {
            assert!(!pace.saw_few() && pace.is_busy());
        }
        assert!(!pace.saw_many(), "others saw many meanwhile, so it begins anew");
        for _ in 1..CALM {
            assert!(!pace.saw_few() && pace.is_busy());
        }
        assert!(pace.saw_few() && !pace.is_busy());
    }
}
