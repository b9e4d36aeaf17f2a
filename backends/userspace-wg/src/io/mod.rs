//! The seam between a device and the operating system: the TUN interface, the UDP sockets, the clocks, and what a thread
//! waits with. `device`, `registry`, `noise` and `offload` name these types and nothing of the system itself.
//!
//! Each system has a directory with the same names in it, chosen here and nowhere else: [`tun::Tun`],
//! [`udp::UdpSockets`], [`waker::Waker`], [`poller::Poller`], [`timer::Timer`]. There is no trait: a device has one kind
//! of each, and calls for every batch of packets stay static and are inlined.

#[cfg(target_os = "linux")]
mod linux;
mod offloads;

#[cfg(target_os = "linux")]
pub(crate) use linux::{control, interfaces, poller, timer, tun, udp, waker};
pub use offloads::{KernelOffloads, TunOffload, UdpReceive, UdpSend};

#[cfg(not(target_os = "linux"))]
compile_error!("overlayd-userspace-wg has an `io` for Linux alone so far");
