//! OverlayBackend in user space: the Noise core of boringtun in our own device loop over TUN and UDP.
//!
//! [`noise`] is the protocol as plain state, [`offload`] packets in frames and frames in packets, `device` the two threads
//! that move packets through both, `io` what they need of the operating system, [`uapi`] the control socket for `wg(8)`, and [`UserspaceWg`] the backend around all of it.

mod backend;
mod config;
pub mod datagram;
mod device;
mod handover;
mod io;
pub mod noise;
pub mod offload;
mod registry;
pub mod uapi;

pub use backend::UserspaceWg;
pub use config::{AtExit, Config};
pub use io::{KernelOffloads, TunOffload, UdpReceive, UdpSend};
