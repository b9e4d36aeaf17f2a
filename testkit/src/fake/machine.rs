use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use overlayd_core::{
    clock::Clock,
    desired::{Change, Desired},
    engine::{Backends, Engine, EngineConfig, EngineTimes},
    store::Store,
};

use super::{FakeAttacher, FakeDns, FakeOverlay};

/// A host in memory with a daemon's data directory and a clock: what outlives the daemon. It can be copied while no
/// daemon runs, so that many futures of the same moment can be tried.
#[derive(Debug)]
pub struct FakeMachine {
    /// Its WireGuard devices.
    pub overlay: FakeOverlay,
    /// Its networks and containers.
    pub attacher: FakeAttacher,
    /// What answers names; sockets end with the daemon.
    pub dns: FakeDns,
    clock: Arc<AtomicU64>,
    dir: tempfile::TempDir,
}

/// Some second after 1970.
const START: u64 = 1_000_000;
/// How often to let other tasks go on until an unused engine has ended.
const YIELDS: usize = 10_000;

impl Default for FakeMachine {
    fn default() -> Self {
        Self::with(FakeOverlay::default(), FakeAttacher::linux(), START)
    }
}

impl FakeMachine {
    fn with(overlay: FakeOverlay, attacher: FakeAttacher, now: u64) -> Self {
        // Directories in memory, where the system has one: thousands of stores wait for no disk.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let dir = dir.expect("a directory");
        Self { overlay, attacher, dns: FakeDns::default(), clock: Arc::new(AtomicU64::new(now)), dir }
    }

    /// Another machine that is now as this one is. No daemon may run.
    pub fn copy(&self) -> Self {
        self.copy_data_to(Self::with(self.overlay.copy(), self.attacher.copy(), self.now()))
    }

    /// Another machine with the same containers and the same data directory, on which the daemon has not done anything
    /// yet: what a start makes of it is what the records say. No daemon may run.
    pub fn untouched(&self) -> Self {
        self.copy_data_to(Self::with(self.overlay.untouched(), self.attacher.untouched(), self.now()))
    }

    /// Starts a daemon, which looks after drift only when it is told to.
    pub async fn start(&mut self) -> Arc<Engine> {
        (self.overlay, self.attacher, self.dns) =
            (self.overlay.restarted(), self.attacher.restarted(), FakeDns::default());
        let backends = Backends {
            overlay: Arc::new(self.overlay.clone()),
            attacher: Arc::new(self.attacher.clone()),
            dns: Some(Arc::new(self.dns.clone())),
            nat: None,
            drift: overlayd_core::contract::DriftSignal::default(),
        };
        let config = EngineConfig {
            clock: Clock::Simulated(Arc::clone(&self.clock)),
            times: EngineTimes {
                reconcile_interval: Duration::from_secs(3600),
                observe_interval: Duration::from_secs(3600),
                ..EngineTimes::default()
            },
            ..EngineConfig::new(self.dir.path().to_owned())
        };
        Engine::start(config, backends).await.unwrap_or_else(|error| panic!("the daemon does not start: {error}"))
    }

    /// The daemon ends without a word. Returns when its store is closed.
    pub async fn crash(engine: Arc<Engine>) {
        let weak = Arc::downgrade(&engine);
        drop(engine);
        Self::ended(&weak).await;
    }

    /// Waits until this engine is no longer used.
    pub async fn ended(engine: &Weak<Engine>) {
        for _ in 0..YIELDS {
            if engine.strong_count() == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the engine is still in use");
    }

    /// Unix second.
    pub fn now(&self) -> u64 {
        self.clock.load(Ordering::SeqCst)
    }

    /// Lets this many seconds pass.
    pub fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Everything on the host, one line per fact.
    pub fn host(&self) -> BTreeSet<String> {
        let answered =
            self.dns.plan().records.into_iter().map(|(name, addresses)| format!("name {name} {addresses:?}"));
        self.overlay.host().into_iter().chain(self.attacher.host()).chain(answered).collect()
    }

    /// What is on record. No daemon may run.
    pub fn records(&self) -> Vec<Change> {
        let store = Store::open(&self.dir.path().join("state.redb"));
        store.unwrap_or_else(|error| panic!("{error}")).1
    }

    /// What is on record, as decisions see it. No daemon may run.
    pub fn desired(&self) -> Desired {
        Desired::load(self.records())
    }

    /// Names of the key files.
    pub fn keys(&self) -> BTreeSet<String> {
        let files = fs::read_dir(self.dir.path().join("keys")).expect("the keys are listed");
        files.map(|file| file.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    /// The daemon's data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    fn copy_data_to(&self, other: Self) -> Self {
        copy_tree(self.dir.path(), other.dir.path());
        other
    }
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a directory is listed") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).expect("a directory");
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file is copied");
        }
    }
}
