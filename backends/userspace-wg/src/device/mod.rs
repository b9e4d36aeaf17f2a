//! A running device: the engine between a TUN interface and two UDP sockets, on threads of its own.

mod inward;
mod outward;
mod shared;
mod threads;

pub(crate) use shared::Shared;
pub(crate) use threads::Threads;
