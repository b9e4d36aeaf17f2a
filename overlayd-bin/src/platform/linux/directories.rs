//! Where the daemon of these flags lives; the rules are the core's.

use std::path::{Path, PathBuf};

use overlayd_core::endpoint::{DATA_DIR_VARIABLE, Platform};

use crate::options::DaemonLocation;

impl DaemonLocation {
    /// Its data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        let variable = std::env::var_os(DATA_DIR_VARIABLE);
        platform().data_dir(self.data_dir.as_deref(), variable.as_deref())
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| platform().endpoint(&self.data_dir()))
    }
}

/// Directory of WireGuard's control sockets for a daemon with this data directory.
pub(crate) fn wireguard_dir(data_dir: &Path) -> PathBuf {
    platform().wireguard_dir(data_dir)
}

/// The rules of this host for this process.
fn platform() -> Platform {
    Platform::Linux { euid: rustix::process::geteuid().as_raw(), home: std::env::var_os("HOME") }
}
