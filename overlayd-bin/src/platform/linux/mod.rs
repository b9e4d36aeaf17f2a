//! Linux: netlink backends, a Unix socket, `sd_notify(3)`, and file descriptors that go to a successor.

pub(crate) mod backends;
pub(crate) mod directories;
mod hardening;
pub(crate) mod listener;
pub(crate) mod service_manager;
pub(crate) mod signals;
pub(crate) mod upgrade;
pub(crate) mod watchdog;

pub(crate) use self::hardening::keep_memory_private;
