//! What the daemon needs of its operating system: backends, the listener and its callers, signals, the service manager,
//! directories, and how one process hands over to the next. One module for each system; the rest of the daemon names none.

mod absent_wireguard;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
pub(crate) use self::linux::{
    backends, directories, keep_memory_private, listener, service_manager, signals, upgrade, watchdog,
};
