//! The daemon ends at any moment, and another one takes over: against hosts in memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod judge;
mod points;
mod random;
mod script;
mod turns;
