use std::{collections::BTreeSet, future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf},
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    Caller, CodecError, Counters, Limits,
    outbox::Outbox,
    reader::{Filled, FrameReader, ReadError, Room},
};
use crate::protocol::{Audience, Event, Frame, Hello, Request, Response, salvage_id};

/// Executes requests: the engine, as the server sees it.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Executes one request. It runs to its end whatever becomes of the client or the deadline, so it needs a bound of
    /// its own. Requests of one connection come one after the other, those of different connections concurrently.
    async fn handle(&self, caller: &Caller, request: Request) -> Response;

    /// A queue with the events from now on. Its capacity should be [`Limits::event_queue`].
    fn events(&self) -> broadcast::Receiver<Arc<Event>>;
}

/// What all connections of a server share.
#[derive(Debug)]
pub struct Service<H> {
    /// Who executes requests.
    pub handler: Arc<H>,
    /// What a connection may cost.
    pub limits: Limits,
    /// Where things are counted.
    pub counters: Arc<Counters>,
    /// When cancelled, connections finish the request they are at, send its reply, and close.
    pub closing: CancellationToken,
    /// Shared by the large frames of all connections.
    room: Room,
}

impl<H> Service<H> {
    /// A service that counts in `counters` and ends with `closing`.
    pub fn new(handler: Arc<H>, limits: Limits, counters: Arc<Counters>, closing: CancellationToken) -> Self {
        let room = Room::new(limits.unfinished);
        Self { handler, limits, counters, closing, room }
    }
}

// Not derived: a handler need not be `Clone` for its service to be.
impl<H> Clone for Service<H> {
    fn clone(&self) -> Self {
        Self {
            handler: Arc::clone(&self.handler),
            limits: self.limits.clone(),
            counters: Arc::clone(&self.counters),
            closing: self.closing.clone(),
            room: self.room.clone(),
        }
    }
}

/// Serves one connection until the client leaves, misbehaves, or asks the daemon to shut down.
///
/// Nothing here ever waits for the client while a request is executing, and a client that leaves never stops one.
pub async fn serve_connection<S, H>(stream: S, caller: Caller, service: &Service<H>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
    H: Handler,
{
    let counters = &service.counters;
    counters.open.add(1);
    counters.accepted.add(1);
    tracing::debug!(%caller, "connection opened");
    let mut connection = Connection::new(stream, Arc::new(caller), service);
    let end = connection.run().await;
    connection.close(end).await;
    counters.open.sub_one();
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client left")]
    Left,
    #[error("the daemon shuts down")]
    Closing,
    #[error("the client took nothing of its replies for {} ms", .0.as_millis())]
    Stalled(Duration),
    #[error("could not write: {0}")]
    Write(#[source] std::io::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a body was no frame and had no readable id: {0}")]
    Undecodable(String),
    #[error(transparent)]
    Encode(#[from] CodecError),
}

type Running = Pin<Box<dyn Future<Output = Response> + Send>>;

struct Connection<'a, S, H> {
    reader: FrameReader<ReadHalf<S>>,
    outbox: Outbox<WriteHalf<S>>,
    /// `None` once the handler has dropped its end.
    events: Option<broadcast::Receiver<Arc<Event>>>,
    /// Added events that the client asked for.
    wanted: BTreeSet<String>,
    caller: Arc<Caller>,
    /// Who calls, for the span of each request.
    who: String,
    service: &'a Service<H>,
}

impl<'a, S: AsyncRead + AsyncWrite, H: Handler> Connection<'a, S, H> {
    fn new(stream: S, caller: Arc<Caller>, service: &'a Service<H>) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            reader: FrameReader::new(read, service.limits.frame_deadline, service.room.clone()),
            outbox: Outbox::new(write),
            events: Some(service.handler.events()),
            wanted: BTreeSet::new(),
            who: caller.identity.to_string(),
            caller,
            service,
        }
    }

    async fn run(&mut self) -> End {
        loop {
            let served = match self.next_body().await {
                Ok(body) => self.serve(&body).await,
                Err(end) => Err(end),
            };
            if let Err(end) = served {
                return end;
            }
            // A client that pipelines shares its thread with the others.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// The next body. Replies are written once no further body is waiting, so that many travel together.
    async fn next_body(&mut self) -> Result<BytesMut, End> {
        loop {
            if self.service.closing.is_cancelled() {
                return Err(End::Closing);
            }
            if self.outbox.is_full() {
                self.reader.pause();
            } else if let Some(body) = self.reader.take()? {
                return Ok(body);
            }
            let (waiting, limit) = (self.outbox.waiting_since(), self.service.limits.frame_deadline);
            tokio::select! {
                biased;
                written = self.outbox.write(), if !self.outbox.is_empty() => written.map_err(End::Write)?,
                () = overdue(waiting, limit) => return Err(End::Stalled(limit)),
                filled = self.reader.fill(), if !self.outbox.is_full() => {
                    if filled? == Filled::End {
                        return Err(End::Left);
                    }
                }
                event = next_event(&mut self.events, &self.service.counters), if self.outbox.is_empty() => {
                    self.push_event(event);
                }
                () = self.service.closing.cancelled() => return Err(End::Closing),
            }
        }
    }

    async fn serve(&mut self, body: &[u8]) -> Result<(), End> {
        match Frame::decode(body) {
            Ok(Frame::Request { id, request }) => self.serve_request(id, request).await,
            Ok(Frame::Response { .. } | Frame::Event(_)) => {
                tracing::warn!(caller = %self.caller, "a frame that is no request was ignored");
                Ok(())
            }
            Err(error) => {
                self.service.counters.bad_frames.add(1);
                let id = salvage_id(body).ok_or_else(|| End::Undecodable(error.place()))?;
                tracing::warn!(caller = %self.caller, id, error = error.place(), "a bad request was refused");
                self.outbox.push_reply(id, Response::err(format_args!("bad request: {error}")))?;
                Ok(())
            }
        }
    }

    async fn serve_request(&mut self, id: u64, request: Request) -> Result<(), End> {
        let wanted = match &request {
            Request::Hello(Hello { events, .. }) => Some(events.iter().cloned().collect()),
            _ => None,
        };
        let shutdown = request == Request::Shutdown;
        let response = self.execute(id, request).await?;
        if let (Some(wanted), Response::Hello(_)) = (wanted, &response) {
            self.wanted = wanted;
        }
        self.service.counters.requests.add(1);
        let done = shutdown && response == Response::Ok;
        self.outbox.push_reply(id, response)?;
        if done { Err(End::Closing) } else { Ok(()) }
    }

    /// Runs the request to its end or its deadline; events and earlier replies flow meanwhile.
    async fn execute(&mut self, id: u64, request: Request) -> Result<Response, End> {
        let op = request.op();
        let span = tracing::info_span!("request", id, op, connection = self.caller.connection, caller = self.who);
        let mut running = self.start(request).instrument(span);
        let limit = self.service.limits.request_deadline;
        let deadline = sleep(limit);
        tokio::pin!(deadline);
        let mut broken = None;
        loop {
            tokio::select! {
                biased;
                response = &mut running => return broken.map_or(Ok(response), Err),
                written = self.outbox.write(), if broken.is_none() && !self.outbox.is_empty() => {
                    broken = written.err().map(End::Write);
                }
                event = next_event(&mut self.events, &self.service.counters), if self.outbox.is_empty() => {
                    self.push_event(event);
                }
                () = &mut deadline => break,
            }
        }
        self.service.counters.overdue.add(1);
        tracing::warn!(caller = %self.caller, id, op, "a request outlived its deadline and goes on without its client");
        tokio::spawn(running);
        let seconds = limit.as_secs_f32();
        Ok(Response::err(format_args!("`{op}` did not end within {seconds} s; it may still take effect")))
    }

    /// The request as a future that owns all it needs, so that it can outlive the connection. A panic becomes `err`.
    fn start(&self, request: Request) -> Running {
        let op = request.op();
        let (handler, caller) = (Arc::clone(&self.service.handler), Arc::clone(&self.caller));
        let call = async move { handler.handle(&caller, request).await };
        Box::pin(AssertUnwindSafe(call).catch_unwind().map(move |outcome| {
            outcome.unwrap_or_else(|_panic| {
                tracing::error!(op, "a request panicked");
                Response::err(format_args!("internal error while executing `{op}`; the daemon's log says more"))
            })
        }))
    }

    /// Queues an event if this connection is in its audience.
    fn push_event(&mut self, event: Option<Arc<Event>>) {
        let Some(event) = event else { return };
        let welcome = match event.audience() {
            Audience::Everyone => true,
            Audience::Subscribers(tag) => self.wanted.contains(tag),
        };
        if welcome && let Err(error) = self.outbox.push_event(&event) {
            self.service.counters.lost_events.add(1);
            tracing::warn!(%error, "an event could not be sent");
        }
    }

    /// Sends what is left to send, within a bound, and logs the end.
    async fn close(&mut self, end: End) {
        let caller = &self.caller;
        match &end {
            End::Left | End::Closing | End::Stalled(_) | End::Write(_) | End::Read(ReadError::Io(_)) => {
                tracing::debug!(%caller, reason = %end, "connection closed")
            }
            End::Read(_) | End::Undecodable(_) | End::Encode(_) => {
                tracing::warn!(%caller, reason = %end, "connection closed");
            }
        }
        if let (false, Some(events)) = (self.outbox.is_empty(), &self.events) {
            // The client was not reading, so these would have reached it.
            self.service.counters.lost_events.add(events.len() as u64);
        }
        match &end {
            End::Write(_) | End::Stalled(_) | End::Read(ReadError::Io(_)) => return,
            End::Read(_) => self.service.counters.bad_frames.add(1),
            _ => {}
        }
        let finished = tokio::time::timeout(self.service.limits.frame_deadline, self.outbox.finish()).await;
        if !matches!(finished, Ok(Ok(()))) {
            tracing::debug!(%caller, ?finished, "the client did not take its last replies");
        }
    }
}

/// When what waits since then has waited for too long.
async fn overdue(since: Option<Instant>, limit: Duration) {
    match since {
        Some(since) => sleep_until(since + limit).await,
        None => std::future::pending().await,
    }
}

/// The next event, or `None` when there is none to send this time; lost ones are counted.
async fn next_event(events: &mut Option<broadcast::Receiver<Arc<Event>>>, counters: &Counters) -> Option<Arc<Event>> {
    let Some(receiver) = events else { return std::future::pending().await };
    match receiver.recv().await {
        Ok(event) => Some(event),
        Err(RecvError::Lagged(lost)) => {
            counters.lost_events.add(lost);
            None
        }
        Err(RecvError::Closed) => {
            *events = None;
            None
        }
    }
}
