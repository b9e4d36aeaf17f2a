//! The host's side of a device on Linux: the TUN interface, its addresses and routes, the UDP sockets, and what a thread
//! waits with.

mod clock;
pub(crate) mod control;
mod ffi;
pub(crate) mod interfaces;
pub(crate) mod poller;
pub(crate) mod timer;
pub(crate) mod tun;
pub(crate) mod udp;
pub(crate) mod waker;
