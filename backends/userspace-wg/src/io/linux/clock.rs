//! The clocks of the host; the protocol is only told what they say.

use std::time::SystemTime;

use rustix::time::{ClockId, clock_gettime};

use crate::noise::{CurrentTime, SteadyTime};

impl SteadyTime {
    /// Reads the steady clock.
    pub fn boot_clock() -> Self {
        // CLOCK_MONOTONIC stands still while the machine is suspended, and sessions would seem younger than their
        // peer knows them to be (whitepaper, section 6.1: an old session must not be used).
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
        Self::from_nanos(seconds * 1_000_000_000 + nanos)
    }
}

impl CurrentTime {
    /// Reads both clocks.
    pub fn read() -> Self {
        Self { steady: SteadyTime::boot_clock(), wall: SystemTime::now() }
    }
}
