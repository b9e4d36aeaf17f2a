//! A handler that tests command, and ways to reach it.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use overlayd_client::{ByteStream, Connector};
use overlayd_core::{
    ipc::{
        Caller, CallerIdentity, ConnectionLimits, OrderGuard, RequestHandler, ServerContext, SocketCounters,
        serve_connection,
    },
    protocol::{Event, HelloReply, ListedPeers, Request, Response},
};
use tokio::{
    io::DuplexStream,
    sync::{Notify, Semaphore, broadcast},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Answers at once, except what it was told to hold. The last word of a service's name decides: `held` waits for
/// [`Desk::release`], `panic` panics. A name that is unregistered is held as well, and one that says `decided` drops its guard first.
pub(crate) struct Desk {
    pub(crate) events: broadcast::Sender<Arc<Event>>,
    /// Requests in the order in which they were begun.
    begun: Mutex<Vec<Request>>,
    /// How many requests have ended, by operation.
    ended: Mutex<BTreeMap<&'static str, usize>>,
    changed: Notify,
    held: Semaphore,
    shutdown: CancellationToken,
    /// What `status` says; tests of size use it.
    pub(crate) interface: Mutex<Option<String>>,
    pub(crate) peers: Mutex<ListedPeers>,
}

/// A request that ends as [`held_request`] does. One that is `decided` lets later ones of its kind begin.
pub(crate) fn held_change(name: &str) -> Request {
    Request::UnregisterDns { name: name.to_owned() }
}

/// A server without a listener.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) desk: Arc<Desk>,
    pub(crate) service: ServerContext<Desk>,
    connections: Arc<AtomicU64>,
}

/// A request that only ends when the desk is told so.
pub(crate) fn held_request() -> Request {
    Request::TeardownServiceOverlay { service: "held".to_owned() }
}

impl Server {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        let closing = CancellationToken::new();
        let desk = Arc::new(Desk {
            events: broadcast::channel(limits.event_queue).0,
            begun: Mutex::default(),
            ended: Mutex::default(),
            changed: Notify::new(),
            held: Semaphore::new(0),
            shutdown: closing.clone(),
            interface: Mutex::default(),
            peers: Mutex::default(),
        });
        let service = ServerContext::new(Arc::clone(&desk), limits, Arc::<SocketCounters>::default(), closing);
        Self { desk, service, connections: Arc::default() }
    }

    /// The client's end of a new connection, with room for `room` bytes in each direction.
    pub(crate) fn connect(&self, room: usize) -> (DuplexStream, JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(room);
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let service = self.service.clone();
        let served = tokio::spawn(async move {
            serve_connection(theirs, Caller { connection, identity: CallerIdentity::InProcess }, &service).await;
        });
        (ours, served)
    }
}

#[async_trait]
impl Connector for Server {
    fn endpoint(&self) -> String {
        "the desk".to_owned()
    }

    async fn connect(&self) -> io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(Self::connect(self, 64 * 1024).0))
    }
}

impl Desk {
    /// Lets `count` held requests end.
    pub(crate) fn release(&self, count: usize) {
        self.held.add_permits(count);
    }

    pub(crate) fn begun(&self) -> Vec<Request> {
        self.begun.lock().unwrap().clone()
    }

    /// Waits until `count` requests have been begun.
    pub(crate) async fn until_begun(&self, count: usize) {
        self.until(|desk| desk.begun.lock().unwrap().len() >= count).await;
    }

    /// Waits until `count` requests of `op` have ended.
    pub(crate) async fn until_ended(&self, op: &'static str, count: usize) {
        self.until(|desk| desk.ended.lock().unwrap().get(op).is_some_and(|ended| *ended >= count)).await;
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }

    async fn answer(&self, request: Request, order: OrderGuard) -> Response {
        match request {
            Request::TeardownServiceOverlay { service } if service == "held" => {
                self.held.acquire().await.unwrap().forget();
                Response::Ok
            }
            Request::TeardownServiceOverlay { service } if service == "panic" => panic!("as told"),
            Request::UnregisterDns { name } => {
                let held = (name != "decided").then_some(order);
                self.held.acquire().await.unwrap().forget();
                drop(held);
                Response::Ok
            }
            Request::ReleaseIp { ip } => Response::Ip { ip },
            Request::Status => Response::Status(overlayd_core::protocol::StatusSnapshot {
                interface: self.interface.lock().unwrap().clone(),
                peers: self.peers.lock().unwrap().clone(),
                ..Default::default()
            }),
            Request::RemoveScopedResolver { zone } => Response::err("missing", format_args!("no zone {zone}")),
            Request::Hello(_) => Response::Hello(HelloReply {
                version: 1,
                build: "desk 1".to_owned(),
                features: vec!["linux_netns".to_owned()],
                backend: None,
            }),
            Request::Shutdown => {
                self.shutdown.cancel();
                Response::Ok
            }
            _ => Response::Ok,
        }
    }
}

#[async_trait]
impl RequestHandler for Desk {
    async fn handle(&self, _caller: &Caller, request: Request, order: OrderGuard) -> Response {
        let op = request.op();
        self.begun.lock().unwrap().push(request.clone());
        self.changed.notify_waiters();
        let response = self.answer(request, order).await;
        *self.ended.lock().unwrap().entry(op).or_default() += 1;
        self.changed.notify_waiters();
        response
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }
}
