mod callers;
mod descriptors;
mod paths;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use overlayd_core::{
    ipc::{Caller, ConnectionLimits, OrderGuard, RequestHandler, SocketCounters},
    protocol::{Event, Frame, FrameCodec, Request, Response},
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

use super::{ClientListener, ListenerConfig, drain};

/// Answers everything with who asked.
struct EchoHandler {
    events: broadcast::Sender<Arc<Event>>,
}

#[async_trait]
impl RequestHandler for EchoHandler {
    async fn handle(&self, caller: &Caller, _request: Request, _order: OrderGuard) -> Response {
        Response::BridgeName { name: caller.identity.to_string() }
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }
}

/// A listener at work.
struct ServingListener {
    counters: Arc<SocketCounters>,
    shutdown: CancellationToken,
    served: JoinHandle<anyhow::Result<()>>,
}

impl ServingListener {
    async fn start(socket: &Path, limits: ConnectionLimits) -> anyhow::Result<Self> {
        let listener = ClientListener::bind(config(socket, limits)).await?;
        Ok(Self::serve(listener))
    }

    /// A daemon that admits only root and members of `group`, as if another user ran it.
    async fn of_another_user(socket: &Path, group: Option<&str>) -> Self {
        let config = ListenerConfig { group: group.map(str::to_owned), ..config(socket, ConnectionLimits::default()) };
        let mut listener = ClientListener::bind(config).await.unwrap();
        listener.access.own_uid = u32::MAX - 1;
        Self::serve(listener)
    }

    fn serve(listener: ClientListener) -> Self {
        let counters = Arc::clone(&listener.config.counters);
        let shutdown = CancellationToken::new();
        let handler = Arc::new(EchoHandler { events: broadcast::channel(16).0 });
        let closing = shutdown.clone();
        let served = tokio::spawn(async move {
            let listener = Arc::new(listener);
            let connections = listener.serve(handler, closing).await;
            drain(listener, connections).await;
            Ok(())
        });
        Self { counters, shutdown, served }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.served.await.unwrap().unwrap();
    }
}

fn config(socket: &Path, limits: ConnectionLimits) -> ListenerConfig {
    ListenerConfig { socket: socket.to_owned(), group: None, limits, counters: Arc::default() }
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
