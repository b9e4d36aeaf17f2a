//! The responder on real sockets of the loopback interface, asked by a client built on the same library.

mod ask;
mod contract;
