//! The operating system around the daemon: signals and the service manager.

mod manager;
mod signals;

pub(crate) use self::{manager::Manager, signals::Signals};
