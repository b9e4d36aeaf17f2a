//! The host's side of a device: the TUN interface, its addresses and routes, and the UDP sockets.

mod ffi;
pub(crate) mod link;
mod offloads;
pub(crate) mod tun;
pub(crate) mod udp;

pub use offloads::{Offloads, TunOffload, UdpReceive, UdpSend};
