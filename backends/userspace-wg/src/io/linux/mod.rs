//! The host's side of a device on Linux: the TUN interface, its addresses and routes, the UDP sockets, and what a thread
//! waits with.

mod ffi;
pub(crate) mod link;
pub(crate) mod timer;
pub(crate) mod tun;
pub(crate) mod udp;
