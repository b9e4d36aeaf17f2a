use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::noise::SteadyTime;

/// Stands for a timer that is not set.
const NEVER: u64 = u64::MAX;

/// Ends waits from a moment on, until it is set to another one.
///
/// The first deadline of a tunnel moves once in seconds, so a packet costs a comparison and no system call.
pub(crate) struct Timer {
    descriptor: OwnedFd,
    /// In nanoseconds of the steady clock.
    set_to: AtomicU64,
}

impl Timer {
    /// One that is not set.
    pub(crate) fn new() -> io::Result<Self> {
        // The clock is the one of SteadyTime: a timer of CLOCK_MONOTONIC would run late after a suspension.
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self { descriptor: timerfd_create(TimerfdClockId::Boottime, flags)?, set_to: AtomicU64::new(NEVER) })
    }

    /// Sets it to this moment, or stops it. Callers exclude each other: they hold the lock of the tunnel.
    pub(crate) fn set(&self, moment: Option<SteadyTime>) {
        let nanos = moment.map_or(NEVER, |at| at.as_nanos().max(1));
        if self.set_to.swap(nanos, Ordering::Relaxed) == nanos {
            return;
        }
        // timerfd_settime(2): all zeros stop the timer. That is why a moment of zero is set as one nanosecond.
        let nothing = Timespec::default();
        let first = if nanos == NEVER { nothing } else { timespec(nanos) };
        let setting = Itimerspec { it_interval: nothing, it_value: first };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::ABSTIME, &setting).expect("a timer takes any moment");
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn timespec(nanos: u64) -> Timespec {
    const SECOND: u64 = 1_000_000_000;
    // Both are far below the limits of their types.
    Timespec { tv_sec: (nanos / SECOND) as i64, tv_nsec: (nanos % SECOND) as _ }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    fn rings_within(timer: &Timer, seconds: i64) -> bool {
        let wait = Timespec { tv_sec: seconds, tv_nsec: 0 };
        poll(&mut [PollFd::new(timer, PollFlags::IN)], Some(&wait)).unwrap() == 1
    }

    #[test]
    fn it_rings_at_its_moment_and_until_it_is_set_to_another() {
        let timer = Timer::new().unwrap();
        let now = SteadyTime::boot_clock();
        assert!(!rings_within(&timer, 0));
        timer.set(Some(now));
        assert!(rings_within(&timer, 30) && rings_within(&timer, 0));
        timer.set(Some(now));
        assert!(rings_within(&timer, 0), "it was set to the same moment");
        timer.set(Some(now.after(Duration::from_secs(1000))));
        assert!(!rings_within(&timer, 0));
        timer.set(Some(SteadyTime::from_nanos(0)));
        assert!(rings_within(&timer, 30), "the beginning of time is over");
        timer.set(None);
        assert!(!rings_within(&timer, 0));
    }
}
