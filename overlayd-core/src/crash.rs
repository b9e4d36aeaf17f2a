//! Crash points: steps that can be seen from outside, at each of which a test may end the daemon.
//!
//! They exist in debug builds with the feature `crash-points` alone. A release build has none of them, even with
//! that feature: there the functions below are empty.
//!
//! A test in the same process runs requests under a [`Plan`]. A daemon of its own is told by the environment:
//! `OVERLAYD_CRASH_TRACE` names a file that gets one line per point passed, `OVERLAYD_CRASH_AT` the number of the point
//! (from 1) at which the process aborts.

#[cfg(all(feature = "crash-points", debug_assertions))]
mod armed;
#[cfg(all(feature = "crash-points", debug_assertions))]
mod process;

#[cfg(all(feature = "crash-points", debug_assertions))]
pub use self::{
    armed::{Plan, point, step},
    process::is_ordered,
};

/// Whether the environment asks for points of this process.
#[cfg(not(all(feature = "crash-points", debug_assertions)))]
#[inline(always)]
pub fn is_ordered() -> bool {
    false
}

/// A point between two steps of asynchronous work.
#[cfg(not(all(feature = "crash-points", debug_assertions)))]
#[inline(always)]
pub async fn point(_: &'static str, _: &'static str) {}

/// A point between two steps of work that blocks.
#[cfg(not(all(feature = "crash-points", debug_assertions)))]
#[inline(always)]
pub fn step(_: &str) {}
