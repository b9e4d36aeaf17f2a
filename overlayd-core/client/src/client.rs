//! The client: keeps one connection, and makes it again after it broke.

use std::{sync::Arc, time::Duration};

use overlayd_protocol::{Hello, HelloReply, Request, Response};
use tokio::sync::{Mutex, broadcast};

use super::{
    ClientError, ClientResult, Connector, EventNotice, EventStream, connect::connect_with_retries,
    connection::DaemonConnection,
};

/// Events that wait for a program that does not take them; older ones are lost.
const EVENT_QUEUE: usize = 1024;

/// How a client behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientOptions {
    /// How often to try to connect, at least once; between tries it waits 100 ms, doubling up to 1 s.
    pub attempts: u32,
    /// From a call to its reply; `None` waits for ever.
    pub timeout: Option<Duration>,
    /// Said on each new connection, before anything else. The published daemon hangs up on it.
    pub hello: Option<Hello>,
}

impl ClientOptions {
    /// For a daemon that was started a moment ago: tries for about 17 seconds.
    pub fn patient() -> Self {
        Self::default().attempts(20)
    }

    /// Tries this often to connect.
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts, ..self }
    }

    /// Waits this long for a reply.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Says this on each new connection.
    pub fn hello(self, hello: Hello) -> Self {
        Self { hello: Some(hello), ..self }
    }
}

impl Default for ClientOptions {
    /// Tries for about 2.5 seconds to connect, and waits a minute for a reply: twice the time after which a daemon with
    /// usual settings answers that a request takes too long.
    fn default() -> Self {
        Self { attempts: 6, timeout: Some(Duration::from_secs(60)), hello: None }
    }
}

/// A daemon to talk to. Clones share the connection.
#[derive(Clone)]
pub struct Client {
    shared: Arc<SharedClient>,
}

struct SharedClient {
    connector: Box<dyn Connector>,
    attempts: u32,
    timeout: Option<Duration>,
    link: Mutex<DaemonLink>,
    events: broadcast::Sender<EventNotice>,
}

/// The connection in use, and what is said on a new one.
struct DaemonLink {
    connection: Option<Arc<DaemonConnection>>,
    hello: Option<Hello>,
}

impl Client {
    /// A client that connects when it is first asked something.
    pub fn new(connector: impl Connector, options: ClientOptions) -> Self {
        let ClientOptions { attempts, timeout, hello } = options;
        let link = Mutex::new(DaemonLink { connection: None, hello });
        let events = broadcast::channel(EVENT_QUEUE).0;
        Self { shared: Arc::new(SharedClient { connector: Box::new(connector), attempts, timeout, link, events }) }
    }

    /// Makes sure that there is a connection. Without one no events arrive.
    pub async fn connect(&self) -> ClientResult<()> {
        self.in_time("connect", async { self.connection().await.map(drop) }).await
    }

    /// Asks, and waits for the reply; a reply `err` is [`ClientError::Refused`].
    ///
    /// A call whose connection breaks fails, because it is not known whether it was executed; the next call connects
    /// again.
    pub async fn call(&self, request: Request) -> ClientResult<Response> {
        self.in_time(request.op(), async { accepted(self.connection().await?.call(request).await?) }).await
    }

    /// `hello`, an addition: the published daemon hangs up on it. It is said again on each new connection from then on.
    pub async fn hello(&self, hello: Hello) -> ClientResult<HelloReply> {
        let reply = self.call(Request::Hello(hello.clone())).await?;
        let reply = introduced(reply)?;
        // Only once it was answered: said again on each connection, a `hello` that the daemon hangs up on would make every
        // later call fail.
        self.shared.link.lock().await.hello = Some(hello);
        Ok(reply)
    }

    /// The daemon's events from now on, across reconnections. They arrive only while there is a connection:
    /// [`Client::connect`] makes one.
    pub fn events(&self) -> EventStream {
        EventStream::new(self.shared.events.subscribe())
    }

    async fn in_time<T>(&self, op: &'static str, answer: impl Future<Output = ClientResult<T>>) -> ClientResult<T> {
        // Connecting counts as well: a program wants its answer in time, no matter what it waits for.
        match self.shared.timeout {
            None => answer.await,
            Some(after) => {
                tokio::time::timeout(after, answer).await.map_err(|_elapsed| ClientError::Timeout { op, after })?
            }
        }
    }

    /// The connection in use, or a new one.
    async fn connection(&self) -> ClientResult<Arc<DaemonConnection>> {
        let SharedClient { connector, attempts, link, events, .. } = &*self.shared;
        // Held while connecting, so that calls at the same time share the new connection instead of making one each.
        let mut link = link.lock().await;
        if let Some(open) = link.connection.as_ref().filter(|connection| connection.is_open()) {
            return Ok(Arc::clone(open));
        }
        let stream = connect_with_retries(connector.as_ref(), *attempts).await?;
        let open = Arc::new(DaemonConnection::start(stream, connector.endpoint(), events.clone()));
        if let Some(hello) = link.hello.clone() {
            // Before any other request: what it subscribes to must not be missed by the call that comes next. When it
            // fails the connection is not kept, and the next call tries again.
            introduced(accepted(open.call(Request::Hello(hello)).await?)?)?;
        }
        link.connection = Some(Arc::clone(&open));
        Ok(open)
    }
}

/// The reply, unless it is a refusal.
fn accepted(reply: Response) -> ClientResult<Response> {
    match reply {
        Response::Err { message, code } => Err(ClientError::Refused { message, code }),
        reply => Ok(reply),
    }
}

/// The reply to a `hello`.
fn introduced(reply: Response) -> ClientResult<HelloReply> {
    match reply {
        Response::Hello(reply) => Ok(reply),
        other => Err(ClientError::UnexpectedReply { op: "hello", found: format!("`{}`", other.result()) }),
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.shared.connector.endpoint()).finish_non_exhaustive()
    }
}
