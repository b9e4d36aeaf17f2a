//! How an engine is set up.

use std::{path::PathBuf, time::Duration};

use crate::{clock::Clock, contract::Inbound, plan::DnsConfig};

/// How a daemon's engine is set up.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Directory for the state and the keys; created (0700) when absent.
    pub state_dir: PathBuf,
    /// The file of an earlier daemon, whose identities are taken over as long as nothing is recorded.
    pub legacy_marker: Option<PathBuf>,
    /// How long one call to a backend may take.
    pub backend_deadline: Duration,
    /// How long a released address rests before it is leased again.
    pub cool_down: Duration,
    /// How often a host name of a peer is resolved again.
    pub resolve_interval: Duration,
    /// How often the host is told again what was asked for.
    pub reconcile_interval: Duration,
    /// Shortest time between two observations of the devices.
    pub observe_interval: Duration,
    /// Who may open connections to the members of isolation networks.
    pub inbound: Inbound,
    /// How names are answered.
    pub dns: DnsConfig,
    /// What time it is.
    pub clock: Clock,
    /// Events that a slow client may lag behind before it loses some.
    pub event_queue: usize,
    /// What identifies the build, for `hello`.
    pub build: String,
    /// What the build can do, for `hello`.
    pub features: Vec<String>,
}

impl EngineConfig {
    /// The usual times, with the state in `state_dir`.
    pub fn new(state_dir: PathBuf) -> Self {
        Self {
            state_dir,
            legacy_marker: None,
            backend_deadline: Duration::from_secs(10),
            cool_down: Duration::from_secs(30),
            resolve_interval: Duration::from_secs(60),
            reconcile_interval: Duration::from_secs(5),
            observe_interval: Duration::from_secs(1),
            inbound: Inbound::Anyone,
            dns: DnsConfig::default(),
            clock: Clock::default(),
            event_queue: crate::ipc::Limits::default().event_queue,
            build: String::new(),
            features: Vec::new(),
        }
    }
}
