//! The host's side of a device: the TUN interface, its addresses and routes, and the UDP sockets.

mod ffi;
pub(crate) mod link;
pub(crate) mod tun;
pub(crate) mod udp;
