use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf},
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    Caller, Counters, Limits,
    call::start,
    outbox::Outbox,
    reader::{Filled, FrameReader, ReadError, Room},
    reply::Reply,
    turn::{Turn, may_overlap},
    under_way::{Answer, Last, UnderWay},
};
use crate::protocol::{Audience, CodecError, Event, Frame, Hello, Request, Response, salvage_id};

/// Executes requests: the engine, as the server sees it.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Executes one request. It runs to its end whatever becomes of the client or the deadline, so it needs a bound of
    /// its own. Requests of different connections come concurrently, those of one connection one after the other, except
    /// that the next of several changes of peers or names may come when the handler drops the `turn` of the one before.
    async fn handle(&self, caller: &Caller, request: Request, turn: Turn) -> Response;

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

struct Connection<'a, S, H> {
    reader: FrameReader<ReadHalf<S>>,
    outbox: Outbox<WriteHalf<S>>,
    under_way: UnderWay,
    /// `None` once the handler has dropped its end.
    events: Option<broadcast::Receiver<Arc<Event>>>,
    /// Added events that the client asked for.
    wanted: BTreeSet<String>,
    /// Those that a `hello` asks for, which has to be answered first.
    asked_for: Option<BTreeSet<String>>,
    caller: Arc<Caller>,
    /// Who calls, for the span of each request.
    who: String,
    service: &'a Service<H>,
}

/// Whether the client may say more at this point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listening {
    Yes,
    No,
}

impl<'a, S: AsyncRead + AsyncWrite, H: Handler> Connection<'a, S, H> {
    fn new(stream: S, caller: Arc<Caller>, service: &'a Service<H>) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            reader: FrameReader::new(read, service.limits.frame_deadline, service.room.clone()),
            outbox: Outbox::new(write),
            under_way: UnderWay::default(),
            events: Some(service.handler.events()),
            wanted: BTreeSet::new(),
            asked_for: None,
            who: caller.identity.to_string(),
            caller,
            service,
        }
    }

    async fn run(&mut self) -> End {
        let end = loop {
            let served = match self.next_body().await {
                Ok(body) => self.serve(&body).await,
                Err(end) => Err(end),
            };
            if let Err(end) = served {
                break end;
            }
            // A client that pipelines shares its thread with the others.
            tokio::task::coop::consume_budget().await;
        };
        self.finish(end).await
    }

    /// The next body. Replies are written once no further body is waiting, so that many travel together.
    async fn next_body(&mut self) -> Result<BytesMut, End> {
        loop {
            if self.service.closing.is_cancelled() {
                return Err(End::Closing);
            }
            if self.outbox.is_full() {
                self.reader.pause();
            } else if self.under_way.has_room()
                && let Some(body) = self.reader.take()?
            {
                return Ok(body);
            }
            self.step(Listening::Yes).await?;
        }
    }

    /// Waits until every request under way is answered.
    async fn settle(&mut self) -> Result<(), End> {
        while !self.under_way.is_empty() {
            self.step(Listening::No).await?;
        }
        Ok(())
    }

    /// Waits for one thing to happen.
    async fn step(&mut self, listening: Listening) -> Result<(), End> {
        let listens = listening == Listening::Yes;
        let reads = listens && !self.outbox.is_full() && self.under_way.has_room();
        let (waiting, limit) = (self.outbox.waiting_since(), self.service.limits.frame_deadline);
        tokio::select! {
            biased;
            answer = self.under_way.progress(), if !self.under_way.is_empty() => {
                if let Some(answer) = answer {
                    self.reply(answer)?;
                }
            }
            written = self.outbox.write(), if !self.outbox.is_empty() => written.map_err(End::Write)?,
            () = overdue(waiting, limit) => return Err(End::Stalled(limit)),
            filled = self.reader.fill(), if reads => {
                if filled? == Filled::End {
                    return Err(End::Left);
                }
            }
            event = next_event(&mut self.events, &self.service.counters), if self.outbox.is_empty() => {
                self.push_event(event);
            }
            () = self.service.closing.cancelled(), if listens => return Err(End::Closing),
        }
        Ok(())
    }

    async fn serve(&mut self, body: &[u8]) -> Result<(), End> {
        match Frame::decode(body) {
            Ok(Frame::Request { id, request }) => self.serve_request(id, request).await,
            Ok(Frame::Response { .. } | Frame::Event(_)) => {
                tracing::warn!(caller = %self.caller, "a frame that is no request was ignored");
                Ok(())
            }
            Err(error) => {
                self.settle().await?;
                self.service.counters.bad_frames.add(1);
                let id = salvage_id(body).ok_or_else(|| End::Undecodable(error.place()))?;
                tracing::warn!(caller = %self.caller, id, error = error.place(), "a bad request was refused");
                let response = Response::err("bad_request", format_args!("bad request: {error}"));
                self.outbox.push_reply(id, Reply::Short(response))?;
                Ok(())
            }
        }
    }

    /// Begins a request. But for those that may overlap, it has the connection for itself until it is answered.
    async fn serve_request(&mut self, id: u64, request: Request) -> Result<(), End> {
        let overlaps = may_overlap(&request);
        if !overlaps {
            self.settle().await?;
        }
        if let Request::Hello(Hello { events, .. }) = &request {
            self.asked_for = Some(events.iter().cloned().collect());
        }
        let (turn, turn_end) = Turn::new();
        let span = tracing::info_span!(
            "request",
            id,
            op = request.op(),
            connection = self.caller.connection,
            caller = self.who
        );
        let running = start(self.service, &self.caller, id, request, turn).instrument(span);
        if let Some(answer) = self.under_way.begin(Box::pin(running), turn_end).await {
            self.reply(answer)?;
        }
        if overlaps { Ok(()) } else { self.settle().await }
    }

    fn reply(&mut self, answer: Answer) -> Result<(), End> {
        self.service.counters.requests.add(1);
        if let (Some(events), Reply::Short(Response::Hello(_))) = (self.asked_for.take(), &answer.reply) {
            self.wanted = events;
        }
        self.outbox.push_reply(answer.id, answer.reply)?;
        if answer.last == Last::Yes { Err(End::Closing) } else { Ok(()) }
    }

    /// Lets every request that has begun run to its end, and its reply be sent where that is possible.
    async fn finish(&mut self, end: End) -> End {
        let heard = match &end {
            End::Write(_) | End::Read(ReadError::Io(_)) => Err(()),
            _ => self.settle().await.map_err(drop),
        };
        if heard.is_err() {
            while !self.under_way.is_empty() {
                drop(self.under_way.progress().await);
            }
        }
        end
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
