//! The daemon: from the settings to the last reply.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use overlayd_core::{
    engine::{Engine, EngineConfig},
    ipc::{Counters, Limits},
    names::InstanceId,
};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{
        args::{DaemonFlags, Place},
        place::wireguard_dir,
    },
    host::{Manager, Signals, keep_memory_private, watchdog},
    ipc::{InstanceLock, Listener, ListenerConfig},
    logging,
    settings::Settings,
    wiring::{self, Surroundings},
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
const ADDITIONS: &[&str] = &["linux_netns", "publish_ports", "status_services"];

/// Runs the daemon until it is told to end.
pub(crate) fn run(place: &Place, flags: &DaemonFlags) -> Result<()> {
    keep_memory_private()?;
    let data_dir = place.data_dir();
    let settings = Settings::load(&data_dir, flags)?;
    logging::start(settings.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let outcome = runtime.block_on(serve(data_dir, place.socket(), settings));
    // A call into the host that hangs must not keep the process from ending.
    runtime.shutdown_timeout(LAST_CALLS);
    outcome
}

/// The socket is claimed before the engine touches the host, and answers only after the engine has caught up with it.
async fn serve(data_dir: PathBuf, socket: PathBuf, settings: Settings) -> Result<()> {
    let mut signals = Signals::catch().context("could not catch signals")?;
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, build = env!("OVERLAYD_BUILD_ID"), data_dir = %data_dir.display(), "starting");
    let _lock = InstanceLock::acquire(&data_dir)?;
    let listener = Listener::bind(listener(socket, &settings)).await?;
    make_private(&data_dir.join(STATE))?;
    let backends = wiring::backends(&settings, &surroundings(&data_dir, &settings))?;
    let engine = Engine::start(engine(&data_dir, &settings), backends).await?;
    let closing = CancellationToken::new();
    let mut serving = tokio::spawn(listener.serve(Arc::clone(&engine), closing.clone()));
    Manager.ready();
    let alive = tokio::spawn(watchdog::feed(Arc::clone(&engine)));
    tokio::select! {
        signal = signals.received() => tracing::info!(signal, "ending; the host's network stays as it is"),
        ended = &mut serving => return ended.context("the listener ended badly")?,
        () = engine.shutdown_requested() => tracing::info!("ending; everything of ours was removed from the host"),
    }
    alive.abort();
    Manager.stopping();
    closing.cancel();
    serving.await.context("the listener ended badly")?
}

/// Makes a directory that nobody else may enter; one that is there stays as it is.
fn make_private(directory: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("could not create the state directory {}", directory.display()))
}

fn listener(socket: PathBuf, settings: &Settings) -> ListenerConfig {
    let limits = Limits {
        connections: settings.limits.connections,
        frame_deadline: settings.deadlines.frame(),
        request_deadline: settings.deadlines.request(),
        ..Limits::default()
    };
    ListenerConfig { socket, group: Some(settings.group().to_owned()), limits, counters: Arc::new(Counters::default()) }
}

fn surroundings(data_dir: &Path, settings: &Settings) -> Surroundings {
    Surroundings {
        instance: InstanceId::of_data_dir(data_dir),
        state_dir: data_dir.join(STATE),
        control_dir: settings.control_dir.clone().unwrap_or_else(|| wireguard_dir(data_dir)),
        fwmark: settings.fwmark,
        managers: std::env::var_os(ROOTLESS).is_none().then(|| PathBuf::from("/run")),
    }
}

fn engine(data_dir: &Path, settings: &Settings) -> EngineConfig {
    EngineConfig {
        backend_deadline: settings.deadlines.backend(),
        dns: settings.dns.config(),
        inbound: settings.isolation.inbound(),
        cool_down: settings.cool_down_secs.time(),
        build: format!("overlayd {}", env!("CARGO_PKG_VERSION")),
        features: ADDITIONS.iter().map(|&addition| addition.to_owned()).collect(),
        legacy_marker: Some(data_dir.join(overlayd_core::legacy::FILE)),
        ..EngineConfig::new(data_dir.join(STATE))
    }
}
