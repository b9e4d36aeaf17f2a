//! The daemon: from the settings to the last reply.

mod control_plane;
mod handover;
mod instance_lock;
mod replace;
mod upgrade_gate;

#[cfg(test)]
pub(crate) use self::instance_lock::InstanceLock;

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context as _, Result};
use overlayd_core::{
    engine::{Backends, BuildInfo, EngineConfig, EngineTimes},
    ipc::{ConnectionLimits, SocketCounters},
    names::InstanceId,
};

use self::{
    control_plane::{ControlPlane, ListenerSource},
    replace::UpgradeOutcome,
};
use crate::{
    logging,
    options::{DaemonFlags, DaemonLocation},
    platform::{
        backends::{self, BackendContext},
        directories::wireguard_dir,
        keep_memory_private,
        listener::ListenerConfig,
        service_manager::ServiceManager,
        signals::TerminationSignals,
        upgrade::{self, PredecessorProcess},
    },
    settings::Settings,
};

/// Threads that serve requests; the data plane has its own.
const WORKERS: usize = 2;
/// How long calls into the host may go on after the last reply.
const LAST_CALLS: Duration = Duration::from_secs(5);
/// Where the engine keeps its state, in the data directory.
const STATE: &str = "overlayd";
/// Set, even to nothing, it keeps the daemon from telling network managers of the overlay.
const ROOTLESS: &str = "ZLAYER_ROOTLESS";
/// What this daemon can do beyond the published protocol, for `hello`.
const ADDITIONS: &[&str] = &[
    "linux_netns",
    "publish_ports",
    "status_services",
    "status_obstacles",
    "status_findings",
    "error_codes",
    "upgrade",
];

/// Runs the daemon until it is told to end.
pub(crate) fn run(location: &DaemonLocation, flags: &DaemonFlags) -> Result<()> {
    // Before any key is read.
    keep_memory_private()?;
    // Never in a release build: without the feature no crash can be ordered.
    if overlayd_core::crash::is_ordered() {
        overlayd_netlink::steps::tell(overlayd_core::crash::step);
    }
    let data_dir = location.data_dir();
    let settings = Settings::load(&data_dir, flags).inspect_err(upgrade::refuse)?;
    logging::start(settings.log_format)?;
    // Looked up now: after a package has replaced the file, /proc/self/exe reads as "… (deleted)".
    let program = std::env::current_exe().context("could not find out where this program is")?;
    let daemon = DaemonProcess { data_dir, socket: location.socket(), settings, program, backends: OnceLock::new() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let outcome = runtime.block_on(daemon.serve());
    // A call into the host that hangs must not keep the process from ending.
    runtime.shutdown_timeout(LAST_CALLS);
    outcome
}

/// What stays the same while control planes come and go.
struct DaemonProcess {
    data_dir: PathBuf,
    socket: PathBuf,
    settings: Settings,
    /// Path of this program when it was started; by now another one may be there.
    program: PathBuf,
    /// The backends, which outlive a control plane that was to be replaced and was not. Made when the first one starts.
    backends: OnceLock<Backends>,
}

impl DaemonProcess {
    async fn serve(&self) -> Result<()> {
        // First of all: a signal that came before would end the process with its socket left behind.
        let mut signals = TerminationSignals::catch().context("could not catch signals")?;
        let version = env!("CARGO_PKG_VERSION");
        tracing::info!(version, build = env!("OVERLAYD_BUILD_ID"), data_dir = %self.data_dir.display(), "starting");
        let mut predecessor = PredecessorProcess::of_this_process()?;
        let mut plane = match &predecessor {
            None => ControlPlane::start(self, ListenerSource::New).await?,
            Some(older) => self.succeed(older).await?,
        };
        // A successor says so only when it is alone: the service manager then takes it for the main process.
        if predecessor.is_none() {
            ServiceManager.ready();
        }
        loop {
            tokio::select! {
                signal = signals.received() => {
                    tracing::info!(signal, "ending; the host's network stays as it is");
                    break;
                }
                ended = &mut plane.serving => anyhow::bail!("the listener ended by itself: {ended:?}"),
                () = plane.engine.shutdown_requested() => {
                    tracing::info!("ending; everything that this daemon made was removed from the host");
                    break;
                }
                () = PredecessorProcess::end_of(predecessor.as_ref()), if predecessor.is_some() => {
                    tracing::info!("the older daemon has ended; this one goes on alone");
                    predecessor = None;
                    ServiceManager.ready();
                }
                // Not while an older process is there: its devices may still be on their way.
                Some(request) = plane.requests.recv(), if predecessor.is_none() => {
                    let replaced = tokio::select! {
                        outcome = self.be_replaced(plane, request) => outcome?,
                        signal = signals.received() => {
                            tracing::info!(signal, "ending, and so does the successor; the host's network stays as it is");
                            return Ok(());
                        }
                    };
                    match replaced {
                        UpgradeOutcome::Replaced => return Ok(()),
                        UpgradeOutcome::Stays(same) => plane = *same,
                    }
                }
            }
        }
        ServiceManager.stopping();
        plane.end().await
    }

    /// Takes over from an older daemon, or tells it why not.
    async fn succeed(&self, older: &PredecessorProcess) -> Result<ControlPlane> {
        let bundle = older.able().await?;
        let plane = match ControlPlane::start(self, ListenerSource::Inherited(bundle)).await {
            Ok(plane) => plane,
            Err(error) => {
                // It waits for an answer, and goes on itself as soon as it has one.
                older.unable(&error).await;
                return Err(error);
            }
        };
        older.serving().await?;
        Ok(plane)
    }

    /// The backends; what earlier runs have left on the host is looked at when they are made.
    fn backends(&self) -> Result<&Backends> {
        if let Some(backends) = self.backends.get() {
            return Ok(backends);
        }
        let backends = backends::choose_all(&self.settings, &context(&self.data_dir, &self.settings))?;
        Ok(self.backends.get_or_init(|| backends))
    }
}

/// Makes a directory that no other user may enter; one that exists stays as it is.
fn make_private(directory: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("could not create the state directory {}", directory.display()))
}

fn listener_config(socket: PathBuf, settings: &Settings) -> ListenerConfig {
    let limits = ConnectionLimits {
        connections: settings.limits.connections,
        frame_deadline: settings.deadlines.frame(),
        request_deadline: settings.deadlines.request(),
        ..ConnectionLimits::default()
    };
    ListenerConfig {
        socket,
        group: Some(settings.group().to_owned()),
        limits,
        counters: Arc::new(SocketCounters::default()),
    }
}

fn context(data_dir: &Path, settings: &Settings) -> BackendContext {
    BackendContext {
        instance: InstanceId::of_data_dir(data_dir),
        state_dir: data_dir.join(STATE),
        control_dir: settings.control_dir.clone().unwrap_or_else(|| wireguard_dir(data_dir)),
        fwmark: settings.fwmark,
        managers: std::env::var_os(ROOTLESS).is_none().then(|| PathBuf::from("/run")),
    }
}

fn engine_config(data_dir: &Path, settings: &Settings) -> EngineConfig {
    EngineConfig {
        times: EngineTimes {
            backend_deadline: settings.deadlines.backend(),
            cool_down: settings.cool_down_secs.time(),
            ..EngineTimes::default()
        },
        dns: settings.dns.config(),
        inbound: settings.isolation.inbound(),
        build: BuildInfo {
            version: format!("overlayd {}", env!("CARGO_PKG_VERSION")),
            features: ADDITIONS.iter().map(|&addition| addition.to_owned()).collect(),
        },
        legacy_marker: Some(data_dir.join(overlayd_core::legacy::FILE)),
        ..EngineConfig::new(data_dir.join(STATE))
    }
}
