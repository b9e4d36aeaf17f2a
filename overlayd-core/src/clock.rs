//! What time it is, which a test may decide.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Where the time of day comes from. Clones of a simulated one show the same time.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The host's clock.
    #[default]
    System,
    /// Unix seconds that a test moves.
    Simulated(Arc<AtomicU64>),
}

impl Clock {
    /// Unix second; 0 before 1970.
    pub fn now(&self) -> u64 {
        match self {
            Self::System => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            Self::Simulated(seconds) => seconds.load(Ordering::SeqCst),
        }
    }

    /// The time as the system says it.
    pub fn system_time(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Simulated(_) => UNIX_EPOCH + Duration::from_secs(self.now()),
        }
    }
}
