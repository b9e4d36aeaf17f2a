use std::time::{Duration, SystemTime};

/// A point on a clock that never goes back and counts suspended time (`CLOCK_BOOTTIME`), in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SteadyTime(u64);

impl SteadyTime {
    /// The moment `nanos` nanoseconds after the clock's start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This much later.
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Time from `earlier` to here; zero when it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The time of an event: steady for intervals, wall clock for what people are shown.
#[derive(Debug, Clone, Copy)]
pub struct CurrentTime {
    /// Steady clock.
    pub steady: SteadyTime,
    /// Wall clock.
    pub wall: SystemTime,
}
