//! Tests that need WireGuard in the running kernel: `testkit/guest/run` finds or makes one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod adoption;
mod contract;
mod half_made;
mod hosts;
mod many;
mod mixed;
mod moves;
mod packets;
mod parity;
