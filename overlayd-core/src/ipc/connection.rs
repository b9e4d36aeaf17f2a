//! One connection of a client, from its first byte to its last, as one task.
//!
//! A step that waits never blocks the others: reading stops while too much waits to be written, a request
//! goes on while its client is slow, and events are sent between replies. docs/decisions/0040 says why it is one task.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf},
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep_until},
};
use tracing::Instrument;

use super::{
    Caller, RequestHandler, ServerContext, SocketCounters,
    execute::execute,
    frame_reader::{FrameReader, ReadError, ReadOutcome},
    in_flight::{FinishedRequest, InFlightRequests, LastReply},
    order::{OrderGuard, may_overlap},
    reply::OutgoingReply,
    send_queue::SendQueue,
};
use crate::protocol::{CodecError, Event, EventAudience, Frame, Hello, Request, Response, salvage_id};

/// Serves one connection until the client leaves, misbehaves, or asks the daemon to shut down.
///
/// Nothing here ever waits for the client while a request is executing, and a client that leaves never stops one.
pub async fn serve_connection<S, H>(stream: S, caller: Caller, server: &ServerContext<H>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
    H: RequestHandler,
{
    let counters = &server.counters;
    counters.open.add(1);
    counters.accepted.add(1);
    tracing::debug!(%caller, "connection opened");
    let mut connection = ClientConnection::new(stream, Arc::new(caller), server);
    let end = connection.run().await;
    connection.close(end).await;
    counters.open.sub_one();
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum CloseReason {
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

struct ClientConnection<'a, S, H> {
    reader: FrameReader<ReadHalf<S>>,
    send_queue: SendQueue<WriteHalf<S>>,
    in_flight: InFlightRequests,
    /// `None` once the handler has dropped its end.
    events: Option<broadcast::Receiver<Arc<Event>>>,
    /// Added events that the client asked for.
    wanted: BTreeSet<String>,
    /// Those that a `hello` asks for, which has to be answered first.
    asked_for: Option<BTreeSet<String>>,
    caller: Arc<Caller>,
    /// The caller as text, for the span of each request.
    who: String,
    server: &'a ServerContext<H>,
}

/// Whether the client may say more at this point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadMode {
    TakeRequests,
    AnswerOnly,
}

impl<'a, S: AsyncRead + AsyncWrite, H: RequestHandler> ClientConnection<'a, S, H> {
    fn new(stream: S, caller: Arc<Caller>, server: &'a ServerContext<H>) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            reader: FrameReader::new(read, server.limits.frame_deadline, server.budget.clone()),
            send_queue: SendQueue::new(write),
            in_flight: InFlightRequests::default(),
            events: Some(server.handler.events()),
            wanted: BTreeSet::new(),
            asked_for: None,
            who: caller.identity.to_string(),
            caller,
            server,
        }
    }

    async fn run(&mut self) -> CloseReason {
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
    async fn next_body(&mut self) -> Result<BytesMut, CloseReason> {
        loop {
            if self.server.closing.is_cancelled() {
                return Err(CloseReason::Closing);
            }
            // A client that does not read its replies is not read either: otherwise its requests would fill memory.
            if self.send_queue.is_full() {
                self.reader.pause();
            } else if self.in_flight.has_room()
                && let Some(body) = self.reader.take()?
            {
                return Ok(body);
            }
            self.step(ReadMode::TakeRequests).await?;
        }
    }

    /// Waits until every request in flight is answered.
    async fn settle(&mut self) -> Result<(), CloseReason> {
        while !self.in_flight.is_empty() {
            self.step(ReadMode::AnswerOnly).await?;
        }
        Ok(())
    }

    /// Waits for one thing to happen.
    async fn step(&mut self, mode: ReadMode) -> Result<(), CloseReason> {
        let listens = mode == ReadMode::TakeRequests;
        let reads = listens && !self.send_queue.is_full() && self.in_flight.has_room();
        let waiting = self.send_queue.waiting_since();
        let limit = self.server.limits.frame_deadline;
        // Biased: answers come first, so that a client that only sends cannot keep others' replies back; events come
        // after replies and only into an empty queue, because they are what may be lost.
        tokio::select! {
            biased;
            finished = self.in_flight.progress(), if !self.in_flight.is_empty() => {
                if let Some(finished) = finished {
                    self.reply(finished)?;
                }
            }
            written = self.send_queue.write(), if !self.send_queue.is_empty() => written.map_err(CloseReason::Write)?,
            () = overdue(waiting, limit) => return Err(CloseReason::Stalled(limit)),
            filled = self.reader.fill(), if reads => {
                if filled? == ReadOutcome::End {
                    return Err(CloseReason::Left);
                }
            }
            event = next_event(&mut self.events, &self.server.counters), if self.send_queue.is_empty() => {
                self.push_event(event);
            }
            () = self.server.closing.cancelled(), if listens => return Err(CloseReason::Closing),
        }
        Ok(())
    }

    async fn serve(&mut self, body: &[u8]) -> Result<(), CloseReason> {
        match Frame::decode(body) {
            Ok(Frame::Request { id, request }) => self.serve_request(id, request).await,
            // As the published daemon does.
            Ok(Frame::Response { .. } | Frame::Event(_)) => {
                tracing::warn!(caller = %self.caller, "a frame that is no request was ignored");
                Ok(())
            }
            Err(error) => {
                // Replies go out in the order of the requests, also that of a refusal.
                self.settle().await?;
                self.server.counters.bad_frames.add(1);
                let id = salvage_id(body).ok_or_else(|| CloseReason::Undecodable(error.place()))?;
                tracing::warn!(caller = %self.caller, id, error = error.place(), "a bad request was refused");
                let response = Response::err("bad_request", format_args!("bad request: {error}"));
                self.send_queue.push_reply(id, OutgoingReply::Short(response))?;
                Ok(())
            }
        }
    }

    /// Begins a request. But for those that may overlap, it has the connection for itself until it is answered.
    async fn serve_request(&mut self, id: u64, request: Request) -> Result<(), CloseReason> {
        let overlaps = may_overlap(&request);
        if !overlaps {
            self.settle().await?;
        }
        // Kept aside until the `hello` is answered: a client must not get an added event before it knows that the
        // daemon has understood it.
        if let Request::Hello(Hello { events, .. }) = &request {
            self.asked_for = Some(events.iter().cloned().collect());
        }
        let (order, released) = OrderGuard::new();
        let span = tracing::info_span!(
            "request",
            id,
            op = request.op(),
            connection = self.caller.connection,
            caller = self.who
        );
        let running = execute(self.server, &self.caller, id, request, order).instrument(span);
        if let Some(finished) = self.in_flight.begin(Box::pin(running), released).await {
            self.reply(finished)?;
        }
        // The next request, of any kind, may depend on what this one sets up.
        if overlaps { Ok(()) } else { self.settle().await }
    }

    fn reply(&mut self, finished: FinishedRequest) -> Result<(), CloseReason> {
        self.server.counters.requests.add(1);
        if let (Some(events), OutgoingReply::Short(Response::Hello(_))) = (self.asked_for.take(), &finished.reply) {
            self.wanted = events;
        }
        self.send_queue.push_reply(finished.id, finished.reply)?;
        if finished.last == LastReply::Yes { Err(CloseReason::Closing) } else { Ok(()) }
    }

    /// Lets every request that has begun run to its end, and its reply be sent where that is possible.
    async fn finish(&mut self, end: CloseReason) -> CloseReason {
        // Once the stream is broken, replies are only collected: the requests themselves still run to their end.
        let heard = match &end {
            CloseReason::Write(_) | CloseReason::Read(ReadError::Io(_)) => Err(()),
            _ => self.settle().await.map_err(drop),
        };
        if heard.is_err() {
            while !self.in_flight.is_empty() {
                drop(self.in_flight.progress().await);
            }
        }
        end
    }

    /// Queues an event if this connection is in its audience.
    fn push_event(&mut self, event: Option<Arc<Event>>) {
        let Some(event) = event else { return };
        // An event that the published client does not know makes it drop the connection.
        let welcome = match event.audience() {
            EventAudience::Everyone => true,
            EventAudience::Subscribers(tag) => self.wanted.contains(tag),
        };
        if welcome && let Err(error) = self.send_queue.push_event(&event) {
            self.server.counters.lost_events.add(1);
            tracing::warn!(%error, "an event could not be sent");
        }
    }

    /// Sends what is left to send, within a bound, and logs the end.
    async fn close(&mut self, end: CloseReason) {
        let caller = &self.caller;
        match &end {
            CloseReason::Left
            | CloseReason::Closing
            | CloseReason::Stalled(_)
            | CloseReason::Write(_)
            | CloseReason::Read(ReadError::Io(_)) => {
                tracing::debug!(%caller, reason = %end, "connection closed")
            }
            CloseReason::Read(_) | CloseReason::Undecodable(_) | CloseReason::Encode(_) => {
                tracing::warn!(%caller, reason = %end, "connection closed");
            }
        }
        if let (false, Some(events)) = (self.send_queue.is_empty(), &self.events) {
            // The client was not reading, so these would have reached it.
            self.server.counters.lost_events.add(events.len() as u64);
        }
        match &end {
            CloseReason::Write(_) | CloseReason::Stalled(_) | CloseReason::Read(ReadError::Io(_)) => return,
            CloseReason::Read(_) => self.server.counters.bad_frames.add(1),
            _ => {}
        }
        // Bounded, because a client that reads nothing would otherwise hold a daemon that shuts down.
        let finished = tokio::time::timeout(self.server.limits.frame_deadline, self.send_queue.finish()).await;
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
async fn next_event(
    events: &mut Option<broadcast::Receiver<Arc<Event>>>,
    counters: &SocketCounters,
) -> Option<Arc<Event>> {
    let Some(receiver) = events else { return std::future::pending().await };
    match receiver.recv().await {
        Ok(event) => Some(event),
        Err(RecvError::Lagged(lost)) => {
            counters.lost_events.add(lost);
            None
        }
        // The engine is gone before its connections are: requests in flight still get their replies.
        Err(RecvError::Closed) => {
            *events = None;
            None
        }
    }
}
