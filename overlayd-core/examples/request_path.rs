//! Requests to an engine on a host in memory, a number of times, for counting instructions:
//! `request_path STEP TIMES [PEERS]`. `testkit/count` runs it.
//!
//! The count for one request is the difference between two runs divided by the difference in times.
#![allow(clippy::unwrap_used, reason = "a tool for measurements")]

use std::{hint::black_box, sync::Arc, time::Duration};

use async_trait::async_trait;
use overlayd_core::{
    contract::{
        DeviceInfo, DevicePlan, DeviceStatus, DriftSignal, OverlayBackend, PeerChange, Result as HostResult, Target,
    },
    desired::{Change, EndpointSpec, Origin, PeerId, PeerRecord},
    engine::{Backends, Engine, EngineConfig},
    keys::PublicKey,
    names::LinkName,
    protocol::{AttachContainer, AttachHandle, Frame, OverlayMode, PeerScope, Request, Response, SetupGlobalOverlay},
    store::Store,
};
use overlayd_testkit::fake::FakeAttacher;

const PID: u32 = 4711;

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

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (step, times) = (arguments[0].as_str(), arguments[1].parse::<u32>().unwrap());
    let peers = arguments.get(2).map_or(10, |peers| peers.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(directory.path(), peers).await;
    for _ in 0..times {
        for request in requests(step) {
            let frame = Frame::Request { id: 1, request }.encode().unwrap();
            let Ok(Frame::Request { request, .. }) = Frame::decode(&frame) else { panic!("not what was sent") };
            let response = engine.answer(request).await;
            assert!(!matches!(response, Response::Err { .. }), "{response:?}");
            black_box(Frame::Response { id: 1, response }.encode().unwrap());
        }
    }
}

/// What one time is.
fn requests(step: &str) -> Vec<Request> {
    let (pubkey, cidr, scope) = (key(1).to_base64(), "172.16.0.0/24".to_owned(), PeerScope::Global);
    let handle = AttachHandle::LinuxPid { pid: PID };
    match step {
        "status" => vec![Request::Status],
        "allowed-ip" => vec![
            Request::AddAllowedIp { pubkey: pubkey.clone(), cidr: cidr.clone(), scope: scope.clone() },
            Request::RemoveAllowedIp { pubkey, cidr, scope },
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

/// An engine with so many peers on record, an overlay and a service.
async fn engine(directory: &std::path::Path, peers: u32) -> Arc<Engine> {
    let (store, _) = Store::open(&directory.join("state.redb")).unwrap();
    store.commit(&(0..peers).map(peer).collect::<Vec<_>>()).durable().await.unwrap();
    drop(store);
    let attacher = FakeAttacher::linux();
    attacher.start(&Target::Process(PID));
    let backends = Backends {
        overlay: Arc::new(Accepting),
        attacher: Arc::new(attacher),
        dns: None,
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
    let engine = Engine::start(config, backends).await.unwrap();
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
        let response = engine.answer(request).await;
        assert!(!matches!(response, Response::Err { .. }), "{response:?}");
    }
    engine
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
