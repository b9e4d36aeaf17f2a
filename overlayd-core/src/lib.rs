//! The heart of overlayd. It knows no operating system and no backend: it records what was asked for, plans what the
//! host should look like, and drives the four traits of [`contract`] until the host agrees.

pub mod clock;
pub mod command;
pub mod contract;
pub mod crash;
pub mod desired;
pub mod endpoint;
pub mod engine;
pub mod ipam;
pub mod ipc;
pub mod keyring;
pub mod keys;
pub mod legacy;
pub mod names;
pub mod plan;
mod private_file;
pub mod store;
pub mod sync;

pub use overlayd_protocol as protocol;
