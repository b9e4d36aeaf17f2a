//! What a request costs with many peers on record, counted and not timed: calls of the backends, and memory that is asked for.
//!
//! One test alone: the allocator counts for the whole process.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    reason = "an allocator is unsafe by its nature; a test that cannot go on panics"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use overlayd_core::{
    contract::{
        DeviceInfo, DevicePlan, DeviceStatus, DriftSignal, OverlayBackend, PeerChange, PortProtocol, Result, Target,
    },
    engine::{Backends, Engine, EngineConfig, EngineTimes},
    names::LinkName,
    protocol::{AttachContainer, AttachHandle, Hello, OverlayMode, PeerScope, PortSpec, Request, Response},
    store::Store,
};
use overlayd_testkit::{
    fake::{FakeAttacher, FakeDns, FakeOverlay, FaultScript},
    requests::{self, NumberedContainer},
};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Peers in the first and in the second half of the test.
const FEW: u32 = 10;
const MANY: u32 = 10_000;
/// Each request is made so often, and the cheapest counts: a table that is full grows now and then.
const ROUNDS: usize = 12;
/// Trees are deeper and tables wider with many; work for each peer would be a thousand times as much.
const ROOM: usize = 3;
const PID: u32 = 4711;
/// Of a container that stays attached.
const RESIDENT: u32 = 4712;

struct Node {
    overlay: Arc<Overlay>,
    attacher: FakeAttacher,
    dns: FakeDns,
    engine: Arc<Engine>,
    _directory: tempfile::TempDir,
}

/// The devices of a host in memory. Once told that nothing changes, they say what they said last, as those in user space do.
#[derive(Default)]
struct Overlay {
    fake: FakeOverlay,
    said: Mutex<(Option<DeviceInfo>, Vec<DeviceStatus>)>,
    still: AtomicBool,
}

#[async_trait]
impl OverlayBackend for Overlay {
    fn name(&self) -> &'static str {
        self.fake.name()
    }

    async fn ensure_device(&self, plan: &DevicePlan) -> Result<DeviceInfo> {
        if let (true, Some(info)) = (self.still.load(Ordering::SeqCst), &self.said.lock().unwrap().0) {
            return Ok(info.clone());
        }
        let info = self.fake.ensure_device(plan).await?;
        self.said.lock().unwrap().0 = Some(info.clone());
        Ok(info)
    }

    async fn change_peers(&self, device: &LinkName, changes: &[PeerChange]) -> Result<()> {
        self.fake.change_peers(device, changes).await
    }

    async fn observe(&self) -> Result<Vec<DeviceStatus>> {
        if self.still.load(Ordering::SeqCst) {
            return Ok(self.said.lock().unwrap().1.clone());
        }
        let said = self.fake.observe().await?;
        self.said.lock().unwrap().1.clone_from(&said);
        Ok(said)
    }

    async fn remove_device(&self, device: &LinkName) -> Result<()> {
        self.fake.remove_device(device).await
    }
}

/// What one request took.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cost {
    calls: Vec<&'static str>,
    allocations: usize,
    bytes: usize,
}

impl Node {
    /// A node with so many peers on record.
    async fn with_peers(peers: u32) -> Self {
        let (overlay, attacher, dns) = (Arc::<Overlay>::default(), FakeAttacher::linux(), FakeDns::default());
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&directory.path().join("state.redb")).unwrap();
        store
            .commit(&(0..peers).map(|number| NumberedContainer(number).on_record()).collect::<Vec<_>>())
            .durable()
            .await
            .unwrap();
        drop(store);
        let backends = Backends {
            overlay: Arc::clone(&overlay) as Arc<dyn OverlayBackend>,
            attacher: Arc::new(attacher.clone()),
            dns: Some(Arc::new(dns.clone())),
            nat: None,
            drift: DriftSignal::default(),
        };
        // What looks at everything from time to time is no part of a request.
        let config = EngineConfig {
            times: EngineTimes {
                reconcile_interval: Duration::from_secs(3600),
                observe_interval: Duration::from_secs(3600),
                resolve_interval: Duration::from_secs(3600),
                cool_down: Duration::ZERO,
                ..EngineTimes::default()
            },
            ..EngineConfig::new(directory.path().to_owned())
        };
        let engine = Engine::start(config, backends).await.unwrap();
        let node = Self { overlay, attacher, dns, engine, _directory: directory };
        node.ok(Request::SetLocalNodeId { node_id: 3 }).await;
        node.ok(Request::SetupGlobalOverlay(requests::overlay())).await;
        node.ok(Request::SetupServiceOverlay { service: "web".into(), mode: OverlayMode::Auto }).await;
        for pid in [PID, RESIDENT] {
            node.attacher.start(&Target::Process(pid));
        }
        node.ok(attach(RESIDENT)).await;
        node
    }

    async fn ok(&self, request: Request) {
        if let Response::Err { message, .. } = self.engine.answer(request).await {
            panic!("{message}");
        }
    }

    /// The calls so far of each backend, without the looks that the engine takes when it has the time: a request
    /// that changed something may coincide with one. A request that looked at 10,000 peers itself would show in its memory.
    fn calls(&self) -> [Vec<&'static str>; 3] {
        [self.overlay.fake.script(), self.attacher.script(), self.dns.script()].map(|script| {
            let mut verbs = FaultScript::verbs(script);
            verbs.retain(|verb| *verb != "observe");
            verbs
        })
    }

    /// What the request takes, which `undo` makes possible once more.
    async fn cost(&self, request: &Request, undo: Option<&Request>) -> Cost {
        let mut least: Option<Cost> = None;
        for _ in 0..ROUNDS {
            let before = self.calls().map(|calls| calls.len());
            let (allocations, bytes) = (ALLOCATIONS.load(Ordering::SeqCst), BYTES.load(Ordering::SeqCst));
            self.ok(request.clone()).await;
            let (allocations, bytes) =
                (ALLOCATIONS.load(Ordering::SeqCst) - allocations, BYTES.load(Ordering::SeqCst) - bytes);
            let calls: Vec<_> =
                self.calls().into_iter().zip(before).flat_map(|(mut calls, before)| calls.split_off(before)).collect();
            if least.as_ref().is_none_or(|least| (allocations, bytes) < (least.allocations, least.bytes)) {
                least = Some(Cost { calls, allocations, bytes });
            }
            if let Some(undo) = undo {
                self.ok(undo.clone()).await;
            }
        }
        least.unwrap()
    }

    /// What a pass takes while nothing changes.
    async fn pass(&self) -> Cost {
        self.engine.reconcile().await;
        self.overlay.still.store(true, Ordering::SeqCst);
        let mut costs = Vec::new();
        for _ in 0..ROUNDS {
            let before = (ALLOCATIONS.load(Ordering::SeqCst), BYTES.load(Ordering::SeqCst));
            self.engine.reconcile().await;
            let after = (ALLOCATIONS.load(Ordering::SeqCst), BYTES.load(Ordering::SeqCst));
            costs.push((after.0 - before.0, after.1 - before.1));
        }
        self.overlay.still.store(false, Ordering::SeqCst);
        let (allocations, bytes) = costs.into_iter().min().unwrap();
        Cost { calls: Vec::new(), allocations, bytes }
    }

    /// What each kind of request takes now, and a pass.
    async fn costs(&self) -> Vec<(&'static str, Cost)> {
        let mut costs = vec![("a pass", self.pass().await)];
        for (there, back) in kinds() {
            costs.push((there.op(), self.cost(&there, back.as_ref()).await));
            if let Some(back) = back {
                self.ok(there.clone()).await;
                costs.push((back.op(), self.cost(&back, Some(&there)).await));
                self.ok(back).await;
            }
        }
        costs
    }
}

#[tokio::test]
async fn a_request_costs_as_much_beside_ten_thousand_peers_as_beside_ten() {
    let few = Node::with_peers(FEW).await.costs().await;
    let many = Node::with_peers(MANY).await.costs().await;
    for ((op, few), (_, many)) in few.iter().zip(&many) {
        println!("{op}: {few:?} with {FEW} peers, {many:?} with {MANY}");
        assert_eq!(few.calls, many.calls, "{op}");
        assert!(many.allocations <= ROOM * few.allocations, "{op}: {few:?} with {FEW} peers, {many:?} with {MANY}");
        assert!(many.bytes <= ROOM * few.bytes, "{op}: {few:?} with {FEW} peers, {many:?} with {MANY}");
    }
}

/// Requests, each with what takes it back.
fn kinds() -> Vec<(Request, Option<Request>)> {
    let key = |number| NumberedContainer(number).key().to_base64();
    let (cidr, scope) = ("172.16.0.0/24".to_owned(), PeerScope::Global);
    let handle = AttachHandle::LinuxPid { pid: RESIDENT };
    let publish = |ports| Request::PublishPorts { handle: handle.clone(), ports };
    let port = PortSpec {
        protocol: PortProtocol::Tcp,
        host_ip: None,
        host_port: 8080,
        host_port_end: None,
        container_port: 80,
    };
    vec![
        (Request::Hello(Hello::default()), None),
        (Request::NatStatus, None),
        (NumberedContainer(MANY).add(), Some(Request::RemovePeer { pubkey: key(MANY), scope: PeerScope::Global })),
        // Again, and with nothing new.
        (NumberedContainer(1).add(), None),
        (
            Request::AddAllowedIp { pubkey: key(2), cidr: cidr.clone(), scope: scope.clone() },
            Some(Request::RemoveAllowedIp { pubkey: key(2), cidr, scope }),
        ),
        (
            Request::RegisterDns { name: "one.web".into(), ip: [10, 77, 4, 9].into() },
            Some(Request::UnregisterDns { name: "one.web".into() }),
        ),
        (attach(PID), Some(Request::DetachContainer { handle: requests::process(PID) })),
        (publish(vec![port]), Some(publish(Vec::new()))),
        (
            Request::SetupServiceOverlay { service: "api".into(), mode: OverlayMode::Auto },
            Some(Request::TeardownServiceOverlay { service: "api".into() }),
        ),
        (
            Request::MintEdgePeer {
                name: "laptop".into(),
                ttl_secs: 3600,
                allow: Vec::new(),
                node_endpoint: "192.0.2.1:51820".into(),
            },
            Some(Request::RevokeEdgePeer { name: "laptop".into() }),
        ),
        (Request::ListEdgePeers, None),
        // The first one lists the peers; the others find them listed.
        (Request::Status, None),
    ]
}

fn attach(pid: u32) -> Request {
    let plain = requests::attach(requests::process(pid), "web");
    Request::AttachContainer(AttachContainer { join_global: true, isolation_network: Some("tenant".into()), ..plain })
}
