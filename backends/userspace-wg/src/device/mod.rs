//! A running device: the tunnel between a TUN interface and two UDP sockets, on threads of its own.

mod busy;
mod forward;
mod gate;
mod receive_thread;
mod send_thread;
mod shared;
mod threads;

pub(crate) use forward::ForwardTraffic;
pub(crate) use gate::GateState;
pub(crate) use shared::SharedDevice;
pub(crate) use threads::DeviceThreads;
