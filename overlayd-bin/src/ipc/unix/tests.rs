use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use async_trait::async_trait;
use overlayd_core::{
    ipc::{Caller, Counters, FrameCodec, Handler, Limits},
    protocol::{Event, Frame, Request, Response},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::broadcast,
    task::JoinHandle,
};
use tokio_util::{
    bytes::BytesMut,
    codec::{Decoder, Encoder},
    sync::CancellationToken,
};

use super::{Listener, ListenerConfig};

/// Answers everything with who asked.
struct Echo {
    events: broadcast::Sender<Arc<Event>>,
}

#[async_trait]
impl Handler for Echo {
    async fn handle(&self, caller: &Caller, _request: Request) -> Response {
        Response::BridgeName { name: caller.identity.to_string() }
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }
}

/// A listener at work.
struct Daemon {
    counters: Arc<Counters>,
    shutdown: CancellationToken,
    served: JoinHandle<anyhow::Result<()>>,
}

impl Daemon {
    async fn start(socket: &Path, limits: Limits) -> anyhow::Result<Self> {
        let counters = Arc::<Counters>::default();
        let config = ListenerConfig { socket: socket.to_owned(), group: None, limits, counters: Arc::clone(&counters) };
        let listener = Listener::bind(config).await?;
        let shutdown = CancellationToken::new();
        let handler = Arc::new(Echo { events: broadcast::channel(16).0 });
        let served = tokio::spawn(listener.serve(handler, shutdown.clone()));
        Ok(Self { counters, shutdown, served })
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.served.await.unwrap().unwrap();
    }
}

async fn ask(stream: &mut UnixStream, id: u64) -> std::io::Result<Response> {
    let mut bytes = BytesMut::new();
    FrameCodec.encode(&Frame::Request { id, request: Request::Status }, &mut bytes).unwrap();
    stream.write_all(&bytes).await?;
    bytes.clear();
    loop {
        if let Some(body) = FrameCodec.decode(&mut bytes).unwrap() {
            match Frame::decode(&body).unwrap() {
                Frame::Response { id: answered, response } if answered == id => return Ok(response),
                other => panic!("{other:?}"),
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn call(socket: &Path) -> Response {
    ask(&mut UnixStream::connect(socket).await.unwrap(), 1).await.unwrap()
}

#[tokio::test]
async fn the_daemons_own_user_is_served_under_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("run/overlayd.sock");
    let daemon = Daemon::start(&socket, Limits::default()).await.unwrap();
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    let uid = rustix::process::geteuid().as_raw();
    let Response::BridgeName { name } = call(&socket).await else { panic!() };
    assert!(name.starts_with(&format!("uid {uid} ")), "{name}");
    assert!(name.ends_with(&format!("pid {}", std::process::id())), "{name}");
    daemon.stop().await;
    assert!(!socket.exists(), "the socket stayed behind");
}

#[tokio::test]
async fn a_live_socket_is_never_stolen() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("overlayd.sock");
    let daemon = Daemon::start(&socket, Limits::default()).await.unwrap();
    let refusal = Daemon::start(&socket, Limits::default()).await.err().unwrap().to_string();
    assert!(refusal.contains("another process is listening") && refusal.contains("overlayd.sock"), "{refusal}");
    assert!(matches!(call(&socket).await, Response::BridgeName { .. }));
    daemon.stop().await;
}
