//! The options of the daemon: given as flags, read by the command line, the settings, the log and the platform alike.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Where the daemon lives; the same for the daemon and for those who talk to it.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DaemonLocation {
    /// Directory of the daemon's state [default: /var/lib/zlayer for root, else ~/.zlayer]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Socket to listen on, or to call [default: derived from the data directory]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

/// Flags of the daemon alone; each overrides the configuration file.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DaemonFlags {
    /// Run under the Windows service manager; accepted and ignored elsewhere.
    #[arg(long, hide = true)]
    pub(crate) service: bool,
    /// Group whose members may use the socket [default: zlayer, where it exists]
    #[arg(long, env = "OVERLAYD_GROUP", value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// WireGuard implementation to use [default: auto]
    #[arg(long, env = "OVERLAYD_WIREGUARD", value_name = "WHICH")]
    pub(crate) wireguard: Option<WireGuardChoice>,
    /// Directory of the control sockets of WireGuard in user space [default: derived from the data directory]
    #[arg(long, env = "OVERLAYD_CONTROL_DIR", value_name = "DIR")]
    pub(crate) control_dir: Option<PathBuf>,
    /// Form of the log on standard error [default: text]
    #[arg(long, env = "OVERLAYD_LOG_FORMAT", value_name = "FORM")]
    pub(crate) log_format: Option<LogFormat>,
}

impl DaemonFlags {
    /// These flags, and where they say nothing, `others`.
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            service: self.service || others.service,
            group: self.group.or(others.group),
            wireguard: self.wireguard.or(others.wireguard),
            control_dir: self.control_dir.or(others.control_dir),
            log_format: self.log_format.or(others.log_format),
        }
    }
}

/// Which WireGuard implementation to use, of those in the binary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WireGuardChoice {
    /// The kernel's where binary and host have it, else the one in user space.
    #[default]
    Auto,
    /// The kernel's, or none.
    Kernel,
    /// The one in user space, or none.
    Userspace,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
