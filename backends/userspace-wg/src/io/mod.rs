//! What a device needs of the operating system. Each system has a directory with the same names in it.

#[cfg(target_os = "linux")]
mod linux;
mod offloads;

#[cfg(target_os = "linux")]
pub(crate) use linux::{link, timer, tun, udp};
pub use offloads::{KernelOffloads, TunOffload, UdpReceive, UdpSend};
