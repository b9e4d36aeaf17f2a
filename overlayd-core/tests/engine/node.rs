//! One daemon in memory: an engine on fakes, with a state directory of its own.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use overlayd_core::{
    contract::{DriftSignal, Target},
    engine::{Backends, Engine, EngineConfig},
    keys::{PrivateKey, PublicKey},
    legacy::FILE,
    plan::DnsConfig,
    protocol::{PeerScope, PeerSpec, Request, Response, StatusSnapshot},
};
use overlayd_testkit::{
    fake::{FakeAttacher, FakeDns, FakeOverlay},
    requests,
};

pub(crate) struct Node {
    pub(crate) overlay: FakeOverlay,
    pub(crate) attacher: FakeAttacher,
    pub(crate) dns: FakeDns,
    pub(crate) engine: Arc<Engine>,
    /// By which the fakes' host tells of drift.
    pub(crate) drift: DriftSignal,
    dir: tempfile::TempDir,
    tuning: Tuning,
}

/// What differs between the daemons of the tests.
#[derive(Debug, Clone)]
struct Tuning {
    /// How often the daemon looks after drift.
    interval: Duration,
    dns: DnsConfig,
    /// How long one call of a backend may take.
    deadline: Duration,
}

/// Too seldom for a test to see.
impl Default for Tuning {
    fn default() -> Self {
        Self { interval: Duration::from_secs(3600), dns: DnsConfig::default(), deadline: Duration::from_millis(200) }
    }
}

impl Node {
    /// A daemon that nothing was asked of yet, and that looks after drift too seldom for a test to see.
    pub(crate) async fn fresh() -> Self {
        Self::in_directory(tempfile::tempdir().unwrap(), Tuning::default()).await
    }

    /// Like [`Node::ready`], but it looks after drift all the time.
    pub(crate) async fn watchful() -> Self {
        let tuning = Tuning { interval: Duration::from_millis(20), ..Tuning::default() };
        Self::in_directory(tempfile::tempdir().unwrap(), tuning).await.with_web().await
    }

    /// Like [`Node::ready`], but it waits for a slow backend for as long as a test takes.
    pub(crate) async fn patient() -> Self {
        let tuning = Tuning { deadline: Duration::from_secs(60), ..Tuning::default() };
        Self::in_directory(tempfile::tempdir().unwrap(), tuning).await.with_web().await
    }

    /// Like [`Node::ready`], with names answered this way.
    pub(crate) async fn that_answers(dns: DnsConfig) -> Self {
        Self::that_will_answer(dns).await.with_web().await
    }

    /// Like [`Node::fresh`], with names answered this way.
    pub(crate) async fn that_will_answer(dns: DnsConfig) -> Self {
        Self::in_directory(tempfile::tempdir().unwrap(), Tuning { dns, ..Tuning::default() }).await
    }

    /// Like [`Node::fresh`], in a directory where an earlier daemon has left this `agent_network.json`.
    pub(crate) async fn after_an_earlier_daemon(file: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), file).unwrap();
        Self::in_directory(dir, Tuning::default()).await
    }

    async fn in_directory(dir: tempfile::TempDir, tuning: Tuning) -> Self {
        let (overlay, attacher, dns) = (FakeOverlay::default(), FakeAttacher::linux(), FakeDns::default());
        let drift = DriftSignal::default();
        let engine = start(&dir, (&overlay, &attacher, &dns), &drift, &tuning).await;
        Self { overlay, attacher, dns, engine, drift, dir, tuning }
    }

    /// A daemon with the overlay 10.77.0.0/16, slice 10.77.4.0/26, and the service `web`.
    pub(crate) async fn ready() -> Self {
        Self::fresh().await.with_web().await
    }

    async fn with_web(self) -> Self {
        self.ok(Request::SetLocalNodeId { node_id: 3 }).await;
        self.ok(setup_global()).await;
        self.ok(requests::service("web")).await;
        self
    }

    /// The process ends without a word, and another one starts on the same host and data directory.
    pub(crate) async fn crash_and_restart(self) -> Self {
        self.crash_and_restart_on(|_| {}).await
    }

    /// The same on a host that was changed while no daemon ran.
    pub(crate) async fn crash_and_restart_on(self, change: impl FnOnce(&FakeAttacher)) -> Self {
        let (overlay, attacher) = (self.overlay.restarted(), self.attacher.restarted());
        change(&attacher);
        // Sockets end with the process.
        let dns = FakeDns::default();
        let engine = Arc::downgrade(&self.engine);
        drop(self.engine);
        // A pass that is under way holds the engine, and with it the state's file, a moment longer.
        while engine.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let drift = DriftSignal::default();
        let engine = start(&self.dir, (&overlay, &attacher, &dns), &drift, &self.tuning).await;
        Self { overlay, attacher, dns, engine, drift, dir: self.dir, tuning: self.tuning }
    }

    pub(crate) async fn ask(&self, request: Request) -> Response {
        self.engine.answer(request).await
    }

    /// Asks, and insists on a success.
    pub(crate) async fn ok(&self, request: Request) -> Response {
        let op = request.op();
        match self.ask(request).await {
            Response::Err { message, .. } => panic!("{op} was refused: {message}"),
            response => response,
        }
    }

    /// Asks, and insists on a refusal.
    pub(crate) async fn refused(&self, request: Request) -> String {
        let op = request.op();
        match self.ask(request).await {
            Response::Err { message, .. } => message,
            response => panic!("{op} was answered with {response:?}"),
        }
    }

    pub(crate) async fn attach(&self, pid: u32) -> IpAddr {
        match self.ok(attach("web", pid)).await {
            Response::Attached(attached) => attached.ip,
            response => panic!("{response:?}"),
        }
    }

    pub(crate) async fn status(&self) -> StatusSnapshot {
        match self.ok(Request::Status).await {
            Response::Status(status) => status,
            response => panic!("{response:?}"),
        }
    }

    pub(crate) fn start_process(&self, pid: u32) {
        self.attacher.start(&Target::Process(pid));
    }

    /// Everything on the host.
    pub(crate) fn host(&self) -> BTreeSet<String> {
        self.overlay.host().into_iter().chain(self.attacher.host()).collect()
    }

    pub(crate) fn state_dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

async fn start(
    dir: &tempfile::TempDir,
    (overlay, attacher, dns): (&FakeOverlay, &FakeAttacher, &FakeDns),
    drift: &DriftSignal,
    tuning: &Tuning,
) -> Arc<Engine> {
    let backends = Backends {
        overlay: Arc::new(overlay.clone()),
        attacher: Arc::new(attacher.clone()),
        dns: Some(Arc::new(dns.clone())),
        nat: None,
        drift: drift.clone(),
    };
    let mut config = EngineConfig::new(dir.path().to_owned());
    config.legacy_marker = Some(dir.path().join(FILE));
    config.times.backend_deadline = tuning.deadline;
    config.times.reconcile_interval = tuning.interval;
    config.dns = tuning.dns.clone();
    Engine::start(config, backends).await.unwrap()
}

pub(crate) fn setup_global() -> Request {
    Request::SetupGlobalOverlay(requests::overlay())
}

pub(crate) fn attach(service: &str, pid: u32) -> Request {
    Request::AttachContainer(requests::attach(requests::process(pid), service))
}

pub(crate) fn detach(pid: u32) -> Request {
    Request::DetachContainer { handle: requests::process(pid) }
}

pub(crate) fn some_key() -> PublicKey {
    PrivateKey::generate().public_key()
}

pub(crate) fn add_peer(key: &PublicKey, endpoint: &str, allowed_ips: &str) -> Request {
    Request::AddPeer {
        peer: PeerSpec {
            public_key: key.to_base64(),
            endpoint: endpoint.into(),
            allowed_ips: allowed_ips.into(),
            persistent_keepalive_secs: 25,
            candidates: vec![],
        },
        scope: PeerScope::Global,
    }
}
