//! Where clients come in: one listener per platform, and the lock that keeps one daemon to one data directory.

mod lock;
#[cfg(unix)]
mod unix;

pub(crate) use lock::InstanceLock;
#[cfg(unix)]
pub(crate) use unix::{Listener, ListenerConfig, drain};
