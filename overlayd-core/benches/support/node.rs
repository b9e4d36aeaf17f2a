//! An engine on a host in memory, and requests to it as they come from the wire.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use overlayd_core::{
    contract::{
        DeviceInfo, DevicePlan, DeviceStatus, DriftSignal, OverlayBackend, PeerChange, Result as HostResult, Target,
    },
    desired::{Change, EndpointSpec, Origin, PeerId, PeerRecord},
    engine::{Backends, Engine, EngineConfig},
    keys::PublicKey,
    names::LinkName,
    protocol::{
        AttachContainer, AttachHandle, Frame, Hello, OverlayMode, PeerScope, PeerSpec, Request, Response,
        SetupGlobalOverlay,
    },
    store::Store,
};
use overlayd_testkit::fake::{FakeAttacher, FakeDns};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const PID: u32 = 4711;
/// A number that no peer on record has.
const NEW: u32 = 1 << 20;

/// An engine with an overlay and a service.
pub(crate) struct Node {
    engine: Arc<Engine>,
    runtime: Runtime,
    _directory: TempDir,
}

impl Node {
    /// A node with so many peers on record, in this directory.
    pub(crate) fn new(directory: TempDir, peers: u32) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let engine = runtime.block_on(engine(directory.path(), peers));
        Self { engine, runtime, _directory: directory }
    }

    /// Makes the requests, each of which has to succeed; returns the length of the replies in bytes.
    pub(crate) fn ask(&self, requests: &[Request]) -> usize {
        self.runtime.block_on(async {
            let mut bytes = 0;
            for request in requests {
                let frame = Frame::Request { id: 1, request: request.clone() }.encode().expect("a frame");
                let Ok(Frame::Request { request, .. }) = Frame::decode(&frame) else { panic!("not what was sent") };
                let response = answer(&self.engine, request).await;
                bytes += Frame::Response { id: 1, response }.encode().expect("a frame").len();
            }
            bytes
        })
    }
}

/// What one time of a step is: a request, and another one that takes it back.
pub(crate) fn requests(step: &str) -> Vec<Request> {
    let (pubkey, cidr, scope) = (key(1).to_base64(), "172.16.0.0/24".to_owned(), PeerScope::Global);
    let handle = AttachHandle::LinuxPid { pid: PID };
    match step {
        "hello" => vec![Request::Hello(Hello::default())],
        "status" => vec![Request::Status],
        "peer" => vec![add_peer(), Request::RemovePeer { pubkey: key(NEW).to_base64(), scope }],
        "allowed-ip" => vec![
            Request::AddAllowedIp { pubkey: pubkey.clone(), cidr: cidr.clone(), scope: scope.clone() },
            Request::RemoveAllowedIp { pubkey, cidr, scope },
        ],
        "dns" => vec![
            Request::RegisterDns { name: "one.web".into(), ip: [10, 77, 4, 9].into() },
            Request::UnregisterDns { name: "one.web".into() },
        ],
        "attach" => vec![
            Request::AttachContainer(AttachContainer {
                handle: handle.clone(),
                service: "web".into(),
                join_global: false,
                ephemeral: false,
                isolation_network: None,
                dns_server: None,
                dns_domain: None,
            }),
            Request::DetachContainer { handle },
        ],
        other => panic!("no such step: {other}"),
    }
}

/// Devices that take everything and keep nothing, so that only the engine's work is counted.
#[derive(Debug)]
struct Accepting;

#[async_trait]
impl OverlayBackend for Accepting {
    fn name(&self) -> &'static str {
        "accepting"
    }

    async fn ensure_device(&self, plan: &DevicePlan) -> HostResult<DeviceInfo> {
        let public_key = plan.private_key.public_key();
        Ok(DeviceInfo { name: plan.name.clone(), public_key, listen_port: 51820, mtu: 1420 })
    }

    async fn change_peers(&self, _: &LinkName, _: &[PeerChange]) -> HostResult<()> {
        Ok(())
    }

    async fn observe(&self) -> HostResult<Vec<DeviceStatus>> {
        Ok(Vec::new())
    }

    async fn remove_device(&self, _: &LinkName) -> HostResult<()> {
        Ok(())
    }
}

/// An engine with so many peers on record, an overlay and a service.
async fn engine(directory: &Path, peers: u32) -> Arc<Engine> {
    let (store, _) = Store::open(&directory.join("state.redb")).expect("a store");
    store.commit(&(0..peers).map(peer).collect::<Vec<_>>()).durable().await.expect("peers on record");
    drop(store);
    let attacher = FakeAttacher::linux();
    attacher.start(&Target::Process(PID));
    let backends = Backends {
        overlay: Arc::new(Accepting),
        attacher: Arc::new(attacher),
        dns: Some(Arc::new(FakeDns::default())),
        nat: None,
        drift: DriftSignal::default(),
    };
    // What looks at everything from time to time is no part of a request.
    let hour = Duration::from_secs(3600);
    let config = EngineConfig {
        reconcile_interval: hour,
        observe_interval: hour,
        resolve_interval: hour,
        cool_down: Duration::ZERO,
        backend_deadline: hour,
        ..EngineConfig::new(directory.to_owned())
    };
    let engine = Engine::start(config, backends).await.expect("an engine");
    let setup = SetupGlobalOverlay {
        deployment: "count".into(),
        instance_id: "n1".into(),
        cluster_cidr: "10.77.0.0/16".into(),
        slice_cidr: Some("10.77.4.0/26".into()),
        wg_port: 51820,
        ..SetupGlobalOverlay::default()
    };
    let service = Request::SetupServiceOverlay { service: "web".into(), mode: OverlayMode::Auto };
    for request in [Request::SetLocalNodeId { node_id: 3 }, Request::SetupGlobalOverlay(setup), service] {
        answer(&engine, request).await;
    }
    engine
}

async fn answer(engine: &Engine, request: Request) -> Response {
    let response = engine.answer(request).await;
    assert!(!matches!(response, Response::Err { .. }), "{response:?}");
    response
}

fn add_peer() -> Request {
    let peer = PeerSpec {
        public_key: key(NEW).to_base64(),
        endpoint: "127.16.0.0:9".into(),
        allowed_ips: "10.116.0.0/32".into(),
        persistent_keepalive_secs: 0,
        candidates: Vec::new(),
    };
    Request::AddPeer { peer, scope: PeerScope::Global }
}

/// The same key each time, and another for each number.
fn key(number: u32) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

fn peer(number: u32) -> Change {
    let [_, high, middle, low] = number.to_be_bytes();
    let record = PeerRecord {
        endpoint: EndpointSpec::Address(([127, high, middle, low], 9).into()),
        allowed_ips: vec![ipnet::IpNet::new_assert([10, 100 + high, middle, low].into(), 32)],
        keepalive: None,
        candidates: Vec::new(),
        origin: Origin::Asked,
    };
    Change::Peer(PeerId { service: None, public_key: key(number) }, Some(record))
}
