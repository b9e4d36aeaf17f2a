//! OverlayBackend on the kernel's WireGuard: devices that outlive the daemon, packets that never leave the kernel.
//!
//! `control` is all that is said to WireGuard itself (by `wireguard-control`), `changes` turns peer changes into steps
//! of which no packet notices more than it must, `devices` makes, adopts, reads and removes devices, `redirects` keeps the
//! one setting of the host that they would change, and [`KernelWg`] is the backend around it. [`probe`] tells whether the
//! running kernel has WireGuard at all.

mod backend;
mod changes;
mod config;
mod control;
mod devices;
mod mark;
mod peer_cache;
mod probe;
mod redirects;

pub use backend::KernelWg;
pub use config::Config;
pub use probe::{KernelSupport, probe};
