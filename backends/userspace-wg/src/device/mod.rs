//! A running device: the engine between a TUN interface and two UDP sockets, on threads of its own.

pub(crate) mod follow;
mod gate;
mod inward;
pub(crate) mod lend;
mod outward;
mod pace;
mod shared;
mod threads;
mod timer;
pub(crate) mod wire;

pub(crate) use gate::Stands;
pub(crate) use shared::Shared;
pub(crate) use threads::Threads;
