//! Systems without calls of their own here: one datagram at a time, and no look-ups.

mod datagrams;

use std::net::SocketAddr;

use socket2::Protocol;

pub(crate) use self::datagrams::{DatagramBatch, with_batch};

/// The process that listens on an address: unknown here.
pub(crate) fn find_port_owner(_: SocketAddr, _: Protocol) -> Option<String> {
    None
}

/// The number of a network interface, by its name: unknown here, so a scope has to be a number.
pub(crate) fn interface_index(_: &str) -> Option<u32> {
    None
}
