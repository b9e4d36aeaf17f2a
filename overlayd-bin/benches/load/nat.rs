//! Answers while NAT traversal waits for a server that never answers. Engine and connections are the real ones, in this
//! process; the host is one in memory, whose traversal hangs for certain.

use std::{path::Path, sync::Arc, thread, time::Duration};

use overlayd_core::{
    contract::DriftSignal,
    engine::{Backends, Engine, EngineConfig},
    ipc::{Caller, CallerIdentity, ConnectionLimits, ServerContext, serve_connection},
    protocol::{NatConfigSpec, Request},
};
use overlayd_testkit::{
    fake::{CallStage, FakeAttacher, FakeDns, FakeNat, FakeOverlay, FaultReaction},
    lab::{LabClient, LabCluster},
};
use tokio::{net::UnixListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;

use crate::{Args, node::deal, stats::Report};

const CALLS: usize = 2000;
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn measure(args: &Args, report: &mut Report) {
    let (runtime, directory) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let (nat, socket) = (FakeNat::default(), directory.path().join("socket"));
    nat.script().always(CallStage::Entry, |call| call.verb == "discover", FaultReaction::Hang);
    runtime.block_on(serve(nat.clone(), directory.path(), &socket));
    let connect = || LabClient::connect(&socket, PATIENCE).unwrap();
    connect().ok(Request::SetLocalNodeId { node_id: 1 });
    connect().ask(setup());
    let asked = thread::scope(|scope| {
        for _ in 0..args.clients {
            // It ends when the server does.
            scope.spawn(|| drop(connect().call(Request::NatTick)));
        }
        while nat.script().calls().len() < args.clients {
            thread::yield_now();
        }
        let asked = deal(1, &[(); CALLS], connect, |client, ()| drop(client.status()));
        runtime.shutdown_background();
        asked
    });
    report.timed("status while NAT probes hang", 1, &asked);
}

/// A set-up that wants NATs to be traversed.
fn setup() -> Request {
    let mut request = LabCluster::V4.setup(0);
    if let Request::SetupGlobalOverlay(setup) = &mut request {
        setup.nat = Some(NatConfigSpec { enabled: true, ..NatConfigSpec::default() });
    }
    request
}

/// Starts an engine that is asked on this socket.
async fn serve(nat: FakeNat, directory: &Path, socket: &Path) {
    let backends = Backends {
        overlay: Arc::new(FakeOverlay::default()),
        attacher: Arc::new(FakeAttacher::linux()),
        dns: Some(Arc::new(FakeDns::default())),
        nat: Some(Arc::new(nat)),
        drift: DriftSignal::default(),
    };
    let engine = Engine::start(EngineConfig::new(directory.join("state")), backends).await.unwrap();
    let service =
        Arc::new(ServerContext::new(engine, ConnectionLimits::default(), Arc::default(), CancellationToken::new()));
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let (service, caller) = (Arc::clone(&service), Caller { connection, identity: CallerIdentity::InProcess });
            tokio::spawn(async move { serve_connection(stream, caller, &service).await });
        }
    });
}
