//! The client: many concurrent calls over one connection, which is made when it is first needed and made again after
//! it broke. It works against the published daemon too, as long as it asks only for published operations.

mod calls;
mod connect;
mod error;
mod session;
#[cfg(unix)]
mod unix;

use std::{sync::Arc, time::Duration};

use tokio::sync::{Mutex, broadcast};

pub use calls::Attachment;
pub use connect::{Connector, Stream};
pub use error::{ClientError, ClientResult};
#[cfg(unix)]
pub use unix::UnixConnector;

use self::session::Session;
use overlayd_protocol::{Event, Request, Response};

/// Events that wait for a program that does not take them; older ones are lost.
const EVENT_QUEUE: usize = 1024;

/// How a client behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// How often to try to connect, at least once; between tries it waits 100 ms, doubling up to 1 s.
    pub attempts: u32,
    /// From a call to its reply; `None` waits for ever.
    pub timeout: Option<Duration>,
}

impl ClientOptions {
    /// For a daemon that was started a moment ago: tries for about 17 seconds.
    pub fn patient() -> Self {
        Self { attempts: 20, ..Self::default() }
    }
}

impl Default for ClientOptions {
    /// Tries for about 2.5 seconds and waits for replies for ever, as the published client does.
    fn default() -> Self {
        Self { attempts: 6, timeout: None }
    }
}

/// A daemon to talk to. Clones share the connection.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    connector: Box<dyn Connector>,
    options: ClientOptions,
    session: Mutex<Option<Arc<Session>>>,
    events: broadcast::Sender<Arc<Event>>,
}

impl Client {
    /// A client that connects when it is first asked something.
    pub fn new(connector: impl Connector, options: ClientOptions) -> Self {
        let events = broadcast::channel(EVENT_QUEUE).0;
        Self { shared: Arc::new(Shared { connector: Box::new(connector), options, session: Mutex::new(None), events }) }
    }

    /// Makes sure that there is a connection.
    pub async fn connect(&self) -> ClientResult<()> {
        self.session().await.map(drop)
    }

    /// Asks, and waits for the reply; a reply `err` is [`ClientError::Refused`].
    ///
    /// A call whose connection breaks fails, as nobody can tell whether it was executed; the next call connects again.
    pub async fn call(&self, request: Request) -> ClientResult<Response> {
        let op = request.op();
        let answered = async { self.session().await?.call(request).await };
        let response = match self.shared.options.timeout {
            None => answered.await?,
            Some(after) => {
                tokio::time::timeout(after, answered).await.map_err(|_elapsed| ClientError::Timeout { op, after })??
            }
        };
        match response {
            Response::Err { message, code } => Err(ClientError::Refused { message, code }),
            response => Ok(response),
        }
    }

    /// The daemon's events from now on, across reconnections. They arrive only while there is a connection.
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.shared.events.subscribe()
    }

    /// The connection in use, or a new one.
    async fn session(&self) -> ClientResult<Arc<Session>> {
        let Shared { connector, options, session, events } = &*self.shared;
        let mut session = session.lock().await;
        if let Some(open) = session.as_ref().filter(|session| session.is_open()) {
            return Ok(Arc::clone(open));
        }
        let stream = connect::with_patience(connector.as_ref(), options.attempts).await?;
        let open = Arc::new(Session::start(stream, connector.endpoint(), events.clone()));
        *session = Some(Arc::clone(&open));
        Ok(open)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.shared.connector.endpoint()).finish_non_exhaustive()
    }
}
