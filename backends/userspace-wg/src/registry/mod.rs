//! The devices of this process, by name: `devices` has them all, `make` makes one, `running` is the state of one that
//! works, `peers` changes its peers, `handover` gives all of them to another process.

mod devices;
mod handover;
mod make;
mod peers;
mod plan;
mod running;

pub(crate) use devices::DeviceRegistry;
