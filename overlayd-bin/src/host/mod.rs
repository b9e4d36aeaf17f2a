//! The operating system around the daemon: signals and the service manager.

mod hardening;
mod manager;
mod signals;
pub(crate) mod watchdog;

pub(crate) use self::{hardening::keep_memory_private, manager::Manager, signals::Signals};
