//! The responder on real sockets of the loopback interface, asked by a client built on the same library.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod ask;
mod changes;
mod contract;
mod forwarding;
mod sockets;
mod upstream;
mod zones;
