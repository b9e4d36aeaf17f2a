//! An engine on a host in memory, and requests to it as they come from the wire.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use overlayd_core::{
    contract::{
        DeviceInfo, DevicePlan, DeviceStatus, DriftSignal, OverlayBackend, PeerChange, Result as HostResult, Target,
    },
    engine::{Backends, Engine, EngineConfig, EngineTimes},
    names::LinkName,
    protocol::{Frame, Hello, PeerScope, Request, Response},
    store::Store,
};
use overlayd_testkit::{
    fake::{FakeAttacher, FakeDns},
    requests::{self, NumberedContainer},
};
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
    let (pubkey, cidr, scope) = (NumberedContainer(1).key().to_base64(), "172.16.0.0/24".to_owned(), PeerScope::Global);
    match step {
        "hello" => vec![Request::Hello(Hello::default())],
        "status" => vec![Request::Status],
        "peer" => {
            vec![
                NumberedContainer(NEW).add(),
                Request::RemovePeer { pubkey: NumberedContainer(NEW).key().to_base64(), scope },
            ]
        }
        "allowed-ip" => vec![
            Request::AddAllowedIp { pubkey: pubkey.clone(), cidr: cidr.clone(), scope: scope.clone() },
            Request::RemoveAllowedIp { pubkey, cidr, scope },
        ],
        "dns" => vec![
            Request::RegisterDns { name: "one.web".into(), ip: [10, 77, 4, 9].into() },
            Request::UnregisterDns { name: "one.web".into() },
        ],
        "attach" => vec![
            Request::AttachContainer(requests::attach(requests::process(PID), "web")),
            Request::DetachContainer { handle: requests::process(PID) },
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
    store
        .commit(&(0..peers).map(|number| NumberedContainer(number).on_record()).collect::<Vec<_>>())
        .durable()
        .await
        .expect("peers on record");
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
        times: EngineTimes {
            reconcile_interval: hour,
            observe_interval: hour,
            resolve_interval: hour,
            cool_down: Duration::ZERO,
            backend_deadline: hour,
        },
        ..EngineConfig::new(directory.to_owned())
    };
    let engine = Engine::start(config, backends).await.expect("an engine");
    let setup = Request::SetupGlobalOverlay(requests::overlay());
    for request in [Request::SetLocalNodeId { node_id: 3 }, setup, requests::service("web")] {
        answer(&engine, request).await;
    }
    engine
}

async fn answer(engine: &Engine, request: Request) -> Response {
    let response = engine.answer(request).await;
    assert!(!matches!(response, Response::Err { .. }), "{response:?}");
    response
}
