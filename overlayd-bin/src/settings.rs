//! What the operator can choose: flags, environment and `overlayd.toml`, merged once at start-up, in this order of
//! precedence.

mod dns;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use overlayd_core::contract::Inbound;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::options::{DaemonFlags, LogFormat, WireGuardChoice};

/// Name of the configuration file in the data directory.
const FILE: &str = "overlayd.toml";
/// Group that may use the socket unless another one is chosen.
const DEFAULT_GROUP: &str = "zlayer";

/// Everything the operator can choose; each part is explained in docs/operations.md.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Group whose members may use the socket; `None` is `zlayer` where it exists.
    pub(crate) group: Option<String>,
    /// Which WireGuard implementation to use.
    pub(crate) wireguard: WireGuardChoice,
    /// Firewall mark of the encrypted packets, 0 for none; `None` leaves what is there.
    pub(crate) fwmark: Option<u32>,
    /// Directory of the control sockets of devices in user space; `None` follows from the data directory.
    pub(crate) control_dir: Option<PathBuf>,
    /// Form of the log.
    pub(crate) log_format: LogFormat,
    /// Who may open connections to members of isolation networks.
    pub(crate) isolation: IsolationPolicy,
    /// Who may take the daemon's nftables tables away.
    pub(crate) rules: RulesetOwnership,
    /// Seconds that a released address rests before it is leased again.
    pub(crate) cool_down_secs: AddressCoolDown,
    /// How long things may take.
    pub(crate) deadlines: DeadlineSettings,
    /// How much is admitted.
    pub(crate) limits: LimitSettings,
    /// How names are answered.
    pub(crate) dns: dns::DnsSettings,
}

/// Who may open connections to members of isolation networks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IsolationPolicy {
    /// Everybody.
    #[default]
    Open,
    /// Of the overlay only members and this node.
    Strict,
}

impl IsolationPolicy {
    /// The same in the engine's words.
    pub(crate) fn inbound(self) -> Inbound {
        match self {
            Self::Open => Inbound::Anyone,
            Self::Strict => Inbound::MembersOnly,
        }
    }
}

/// Who may take the daemon's nftables tables away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RulesetOwnership {
    /// No other program while the daemon runs: a flush of the ruleset leaves them, where the kernel can do that.
    #[default]
    Held,
    /// Everybody.
    Common,
}

/// Seconds that a released address rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct AddressCoolDown(u64);

impl Default for AddressCoolDown {
    fn default() -> Self {
        Self(30)
    }
}

impl AddressCoolDown {
    /// The same as a time.
    pub(crate) fn time(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

/// How long things may take, in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DeadlineSettings {
    /// A request, from its arrival to its reply.
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) request_secs: u64,
    /// A frame, from its first byte to its last.
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) frame_secs: u64,
    /// One call of a backend.
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) backend_secs: u64,
}

impl Default for DeadlineSettings {
    fn default() -> Self {
        Self { request_secs: 30, frame_secs: 10, backend_secs: 10 }
    }
}

impl DeadlineSettings {
    /// Time for a request.
    pub(crate) fn request(&self) -> Duration {
        Duration::from_secs(self.request_secs)
    }

    /// Time for a frame.
    pub(crate) fn frame(&self) -> Duration {
        Duration::from_secs(self.frame_secs)
    }

    /// Time for a backend's call.
    pub(crate) fn backend(&self) -> Duration {
        Duration::from_secs(self.backend_secs)
    }
}

/// How much is admitted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitSettings {
    /// Connections at a time.
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) connections: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { connections: overlayd_core::ipc::ConnectionLimits::default().connections }
    }
}

impl Settings {
    /// Reads the file in `data_dir`, if there is one, and lets `flags` override it.
    pub(crate) fn load(data_dir: &Path, flags: &DaemonFlags) -> Result<Self> {
        let path = data_dir.join(FILE);
        let settings = match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text),
            // A file that exists and cannot be read is an error: the defaults might open what it closes.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e.into()),
        };
        Ok(settings.with_context(|| format!("could not read the configuration {}", path.display()))?.overridden(flags))
    }

    /// The group whose members may use the socket, where it exists.
    pub(crate) fn group(&self) -> &str {
        self.group.as_deref().unwrap_or(DEFAULT_GROUP)
    }

    fn parse(text: &str) -> Result<Self> {
        let settings: Self = toml::from_str(text)?;
        settings.dns.check()?;
        Ok(settings)
    }

    fn overridden(self, flags: &DaemonFlags) -> Self {
        Self {
            group: flags.group.clone().or(self.group),
            control_dir: flags.control_dir.clone().or(self.control_dir),
            wireguard: flags.wireguard.unwrap_or(self.wireguard),
            log_format: flags.log_format.unwrap_or(self.log_format),
            ..self
        }
    }
}

/// Reads a number that must not be 0. Checked while reading, so that the error shows line and key.
fn at_least_one<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default + PartialEq,
{
    let number = T::deserialize(deserializer)?;
    if number == T::default() {
        return Err(D::Error::custom("must be at least 1"));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_override_the_file_and_the_file_overrides_the_defaults() {
        let file =
            Settings::parse("group = \"ops\"\nwireguard = \"userspace\"\n[deadlines]\nrequest_secs = 5\n").unwrap();
        let flags = DaemonFlags { group: Some("net".into()), ..DaemonFlags::default() };
        let merged = file.overridden(&flags);
        assert_eq!(merged.group.as_deref(), Some("net"));
        assert_eq!(merged.wireguard, WireGuardChoice::Userspace);
        assert_eq!(merged.deadlines, DeadlineSettings { request_secs: 5, ..DeadlineSettings::default() });
    }

    #[test]
    fn isolation_is_open_unless_it_is_strict() {
        assert_eq!(Settings::default().isolation.inbound(), Inbound::Anyone);
        let strict = Settings::parse("isolation = \"strict\"\ncool_down_secs = 0\n").unwrap();
        assert_eq!(strict.isolation.inbound(), Inbound::MembersOnly);
        assert_eq!(
            (strict.cool_down_secs.time(), Settings::default().cool_down_secs.time()),
            (Duration::ZERO, Duration::from_secs(30))
        );
        assert!(Settings::parse("isolation = \"closed\"\n").is_err());
    }

    #[test]
    fn rules_are_held_unless_they_are_common() {
        assert_eq!(Settings::default().rules, RulesetOwnership::Held);
        assert_eq!(Settings::parse("rules = \"common\"\n").unwrap().rules, RulesetOwnership::Common);
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line() {
        let error = Settings::parse("group = \"ops\"\nwiregard = \"auto\"\n").unwrap_err().to_string();
        assert!(error.contains("wiregard") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_deadline_of_nothing_is_refused() {
        let error = Settings::parse("[deadlines]\nframe_secs = 0\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("frame_secs") && error.contains("at least 1"), "{error}");
        assert!(Settings::parse("[limits]\nconnections = 0\n").is_err());
    }

    #[test]
    fn without_a_file_the_defaults_hold() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Settings::load(dir.path(), &DaemonFlags::default()).unwrap(), Settings::default());
    }
}
