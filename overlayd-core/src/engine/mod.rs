//! The engine: it records what is asked for, plans, has the host changed, and reports.
//!
//! Decisions are made on [`Desired`] under a mutex that is held for microseconds. The record is durable before a
//! backend is touched. Work on the host runs outside the mutex: concurrently for different objects, in order for the
//! same one, and always under a deadline.

mod adopt;
mod attach;
mod converge;
mod dispatch;
mod dns;
mod edges;
mod error;
mod fences;
mod heal;
mod host;
mod leases;
mod locks;
mod nat;
mod observe;
mod obstacles;
mod overlay;
mod parse;
mod peers;
mod ports;
mod prune;
mod reconcile;
mod record;
mod services;
mod status;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, AtomicUsize},
    },
    time::Duration,
};

use tokio::sync::{Notify, RwLock, broadcast, watch};

pub use self::{error::Error, host::Backends};
use self::{host::Host, locks::Locks, observe::Observed, peers::Sent};
use crate::{
    clock::Clock,
    contract::Inbound,
    desired::{Change, Desired},
    keyring::Keyring,
    keys::{PrivateKey, PublicKey},
    plan::DnsConfig,
    protocol::{Event, NatStatusWire},
    store::Store,
};

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

/// Owns everything on the host that touches the overlay, and answers requests about it.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    store: Store,
    keyring: Keyring,
    node_key: PrivateKey,
    /// The public half of it. Working it out takes longer than the rest of most requests.
    public_key: PublicKey,
    desired: Mutex<Desired>,
    locks: Locks,
    /// Shared by requests, exclusive to what removes everything.
    world: RwLock<()>,
    /// What the devices were last told about their peers.
    sent: Sent,
    /// Issued identities whose fence does not stand: they are kept out until it does.
    withheld: Mutex<BTreeSet<PublicKey>>,
    /// Set-ups of the global overlay that are under way: its device is told all its peers at the end of each.
    coming_up: AtomicUsize,
    /// What answers names, as last told.
    served: tokio::sync::Mutex<dns::Served>,
    /// MTU of the overlay device, in bytes.
    mtu: AtomicU16,
    observed: watch::Sender<Arc<Observed>>,
    /// The peers as `status` listed them last.
    listing: Arc<status::Listing>,
    /// Held while looking, so that a look that began earlier never overwrites a later one.
    observing: tokio::sync::Mutex<()>,
    /// How long the last look took; the observer sees by it that there was one.
    looked: watch::Sender<Duration>,
    /// Wakes the observer before its interval is over.
    look: Arc<Notify>,
    /// Wakes the sweep of edges, so that it knows when the new one's time is over.
    edge_minted: Arc<Notify>,
    events: broadcast::Sender<Arc<Event>>,
    stopping: watch::Sender<Stopping>,
    /// Unix second of the start.
    started_at: u64,
    /// What the last tick of NAT traversal found.
    nat: Mutex<NatStatusWire>,
    /// What was put right on the host.
    healed: heal::Healed,
    /// Dropped last: packets flow until the state is closed, which may have to wait for a disk.
    host: Host,
    /// Closed by the end of this value. The last member, so that the store is closed before.
    life: watch::Sender<()>,
}

/// Whether a `shutdown` request was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    Asked,
}

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory cannot be made.
    #[error("could not create the state directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// The state cannot be read.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The keys cannot be read.
    #[error(transparent)]
    Keyring(#[from] crate::keyring::KeyringError),
    /// The identities of an earlier daemon cannot be taken over.
    #[error(transparent)]
    Legacy(#[from] crate::legacy::LegacyError),
}

impl Engine {
    /// Loads what was asked for in earlier runs, brings the host in line with it, and only then returns.
    pub async fn start(config: EngineConfig, backends: Backends) -> Result<Arc<Self>, StartError> {
        let directory = |source| StartError::Directory { path: config.state_dir.clone(), source };
        crate::private_file::create_dir(&config.state_dir).map_err(directory)?;
        let keyring = Keyring::open(config.state_dir.join("keys"))?;
        let node_key = keyring.load_or_generate("node")?;
        let (store, mut records) = Store::open(&config.state_dir.join("state.redb"))?;
        if let (true, Some(path)) = (records.is_empty(), &config.legacy_marker) {
            records = adopt::adopt(path, &keyring, &store).await?;
        }
        let engine = Arc::new(Self {
            host: Host::new(backends, config.backend_deadline),
            store,
            keyring,
            public_key: node_key.public_key(),
            node_key,
            started_at: config.clock.now(),
            nat: Mutex::default(),
            healed: heal::Healed::default(),
            life: watch::Sender::new(()),
            desired: Mutex::new(Desired::load(records)),
            locks: Locks::default(),
            world: RwLock::new(()),
            sent: Sent::default(),
            withheld: Mutex::default(),
            coming_up: AtomicUsize::new(0),
            served: tokio::sync::Mutex::default(),
            mtu: AtomicU16::new(crate::plan::DEFAULT_MTU),
            observed: watch::Sender::new(Arc::default()),
            listing: Arc::default(),
            observing: tokio::sync::Mutex::default(),
            looked: watch::Sender::default(),
            look: Arc::default(),
            edge_minted: Arc::default(),
            events: broadcast::Sender::new(config.event_queue),
            stopping: watch::Sender::new(Stopping::No),
            config,
        });
        engine.converge().await;
        observe::spawn(&engine);
        edges::spawn(&engine);
        reconcile::spawn(&engine);
        peers::spawn_resolver(&engine);
        Ok(engine)
    }

    /// Resolves once a `shutdown` request has been carried out.
    pub async fn shutdown_requested(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        drop(stopping.wait_for(|stopping| *stopping == Stopping::Asked).await);
    }

    /// Resolves once the last user of this engine is gone, work that is under way included, and the store is closed.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut life = self.life.subscribe();
        async move { while life.changed().await.is_ok() {} }
    }

    /// Whether a request waits for its change to become durable.
    pub fn is_recording(&self) -> bool {
        !self.store.is_idle()
    }

    fn desired(&self) -> MutexGuard<'_, Desired> {
        self.desired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.config.clock.now()
    }

    /// The changes that return a lease: the address rests, and what has rested enough is forgotten.
    fn rest(&self, desired: &Desired, ip: std::net::IpAddr) -> Vec<Change> {
        let now = self.now();
        // Two per release: the book of resting addresses shrinks faster than it grows, at a constant cost.
        let mut changes: Vec<_> = desired.rested(now).take(2).map(|ip| Change::Rest(ip, None)).collect();
        changes.push(Change::Rest(ip, Some(now + self.config.cool_down.as_secs())));
        changes
    }
}
