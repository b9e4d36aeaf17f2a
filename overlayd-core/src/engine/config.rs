//! How an engine is set up.

use std::{path::PathBuf, time::Duration};

use crate::{clock::Clock, contract::Inbound, ipc::ConnectionLimits, plan::DnsConfig};

/// How a daemon's engine is set up.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Directory for the state and the keys; created (0700) when absent.
    pub state_dir: PathBuf,
    /// The file of the earlier product, whose identities are imported as long as nothing is recorded.
    pub legacy_marker: Option<PathBuf>,
    /// How long things may take, and how often they are done.
    pub times: EngineTimes,
    /// Who may open connections to the members of isolation networks.
    pub inbound: Inbound,
    /// How names are answered.
    pub dns: DnsConfig,
    /// What time it is.
    pub clock: Clock,
    /// Events that a slow client may lag behind before it loses some.
    pub event_queue: usize,
    /// What the build says of itself in `hello`.
    pub build: BuildInfo,
}

/// How long things may take, and how often they are done.
#[derive(Debug, Clone)]
pub struct EngineTimes {
    /// How long one call to a backend may take.
    pub backend_deadline: Duration,
    /// How long a released address rests before it is leased again.
    pub cool_down: Duration,
    /// How often a host name of a peer is resolved again.
    pub resolve_interval: Duration,
    /// How often the host is reconciled without a report of drift.
    pub reconcile_interval: Duration,
    /// Shortest time between two observations of the devices.
    pub observe_interval: Duration,
}

/// What a build says of itself.
#[derive(Debug, Clone, Default)]
pub struct BuildInfo {
    /// What identifies it.
    pub version: String,
    /// Additions to the protocol that it has.
    pub features: Vec<String>,
}

impl EngineConfig {
    /// The usual times, with the state in `state_dir`.
    pub fn new(state_dir: PathBuf) -> Self {
        Self {
            state_dir,
            legacy_marker: None,
            times: EngineTimes::default(),
            inbound: Inbound::Anyone,
            dns: DnsConfig::default(),
            clock: Clock::default(),
            event_queue: ConnectionLimits::default().event_queue,
            build: BuildInfo::default(),
        }
    }
}

impl Default for EngineTimes {
    fn default() -> Self {
        Self {
            backend_deadline: Duration::from_secs(10),
            cool_down: Duration::from_secs(30),
            resolve_interval: Duration::from_secs(60),
            reconcile_interval: Duration::from_secs(5),
            observe_interval: Duration::from_secs(1),
        }
    }
}
