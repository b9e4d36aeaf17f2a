use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::BytesMut;
use futures_util::StreamExt;
use overlayd_protocol::{Event, Frame, FrameCodec, Request, Response};
use serde::Deserialize;
use tokio::{
    io::{AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{broadcast, mpsc, oneshot},
    task::AbortHandle,
};
use tokio_util::codec::{Encoder, FramedRead};

use super::{ClientError, ClientResult, Stream};

/// Requests that wait to be written before callers wait with them.
const WRITE_QUEUE: usize = 256;
/// Bytes that are written together at most.
const BATCH: usize = 64 * 1024;
/// Time for the reader to take what a daemon that has hung up said before.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Room for the first bytes read.
const READ_ROOM: usize = 16 * 1024;

/// One connection and the calls that wait on it.
pub(super) struct Session {
    outgoing: mpsc::Sender<BytesMut>,
    waiting: Arc<Waiting>,
    reader: AbortHandle,
}

/// The calls that wait for a reply, by id.
struct Waiting {
    endpoint: String,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last_id: u64,
    calls: HashMap<u64, Call>,
    /// How the connection broke, once it has.
    broken: Option<Arc<str>>,
}

struct Call {
    op: &'static str,
    reply: oneshot::Sender<ClientResult<Response>>,
}

impl Session {
    pub(super) fn start(stream: Box<dyn Stream>, endpoint: String, events: broadcast::Sender<Arc<Event>>) -> Self {
        let (read, write) = tokio::io::split(stream);
        let waiting = Arc::new(Waiting { endpoint, table: Mutex::default() });
        let (outgoing, queue) = mpsc::channel(WRITE_QUEUE);
        let reader = tokio::spawn(read_all(read, Arc::clone(&waiting), events)).abort_handle();
        tokio::spawn(write_all(write, queue, Arc::clone(&waiting)));
        Self { outgoing, waiting, reader }
    }

    pub(super) fn is_open(&self) -> bool {
        !self.outgoing.is_closed() && self.waiting.table().broken.is_none()
    }

    /// Sends one request and waits for its reply. Dropping the call forgets it; its reply is then ignored.
    pub(super) async fn call(&self, request: Request) -> ClientResult<Response> {
        let op = request.op();
        let (reply, answer) = oneshot::channel();
        let ticket = self.waiting.enter(Call { op, reply })?;
        let mut bytes = BytesMut::new();
        let frame = Frame::Request { id: ticket.id, request };
        FrameCodec
            .encode(&frame, &mut bytes)
            .map_err(|error| ClientError::Unsendable { op, reason: error.to_string().into() })?;
        // Either end of a broken connection leaves its reason in the table.
        if self.outgoing.send(bytes).await.is_err() {
            return Err(self.waiting.transport_error());
        }
        answer.await.unwrap_or_else(|_dropped| Err(self.waiting.transport_error()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The writer ends with its queue; the reader would wait for the daemon to hang up first.
        self.reader.abort();
    }
}

/// A place in the table, given back when the call ends in whatever way.
struct Ticket<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.waiting.table().calls.remove(&self.id);
    }
}

impl Waiting {
    /// The table is never left half-changed, so a panic elsewhere does not spoil it.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, call: Call) -> ClientResult<Ticket<'_>> {
        let mut table = self.table();
        if table.broken.is_some() {
            drop(table);
            return Err(self.transport_error());
        }
        table.last_id = table.last_id.wrapping_add(1);
        let id = table.last_id;
        table.calls.insert(id, call);
        Ok(Ticket { waiting: self, id })
    }

    fn answer(&self, id: u64, reply: impl FnOnce(&Call) -> ClientResult<Response>) {
        let Some(call) = self.table().calls.remove(&id) else {
            tracing::debug!(id, "a reply that nobody waits for");
            return;
        };
        let reply = reply(&call);
        if call.reply.send(reply).is_err() {
            tracing::debug!(id, "the call was given up as its reply came");
        }
    }

    /// Fails all calls that wait, and those to come. The first reason stands.
    fn break_off(&self, reason: &str) {
        let calls = {
            let mut table = self.table();
            table.broken.get_or_insert_with(|| reason.into());
            std::mem::take(&mut table.calls)
        };
        // A dropped call learns the reason from the table.
        drop(calls);
    }

    fn transport_error(&self) -> ClientError {
        let reason = self.table().broken.clone().unwrap_or_else(|| "it was given up".into());
        ClientError::Transport { endpoint: self.endpoint.clone(), reason }
    }
}

/// Writes requests, those that wait together in one go.
async fn write_all(mut write: WriteHalf<Box<dyn Stream>>, mut queue: mpsc::Receiver<BytesMut>, waiting: Arc<Waiting>) {
    while let Some(mut batch) = queue.recv().await {
        while batch.len() < BATCH
            && let Ok(more) = queue.try_recv()
        {
            batch.extend_from_slice(&more);
        }
        if let Err(error) = write.write_all(&batch).await {
            drop(queue);
            // What the daemon said last may still be on its way to the reader.
            tokio::time::sleep(LAST_WORDS).await;
            waiting.break_off(&format!("could not write: {error}"));
            return;
        }
    }
    if let Err(error) = write.shutdown().await {
        tracing::debug!(%error, "the daemon had hung up before this client did");
    }
}

/// Hands replies to their calls and events to who listens, until the connection ends.
async fn read_all(read: ReadHalf<Box<dyn Stream>>, waiting: Arc<Waiting>, events: broadcast::Sender<Arc<Event>>) {
    let mut bodies = FramedRead::with_capacity(read, FrameCodec, READ_ROOM);
    let reason = loop {
        let taken = match bodies.next().await {
            Some(Ok(body)) => take(&body, &waiting, &events),
            Some(Err(error)) => Err(format!("could not read: {error}")),
            None => Err("the daemon closed it".to_owned()),
        };
        if let Err(reason) = taken {
            break reason;
        }
    };
    waiting.break_off(&reason);
}

/// Takes one body in; an error says why the connection cannot go on.
fn take(body: &[u8], waiting: &Waiting, events: &broadcast::Sender<Arc<Event>>) -> Result<(), String> {
    match Frame::decode(body) {
        Ok(Frame::Response { id, response }) => waiting.answer(id, |_| Ok(response)),
        Ok(Frame::Event(event)) => {
            if events.send(Arc::new(event)).is_err() {
                tracing::trace!("an event that nobody listens to");
            }
        }
        Ok(Frame::Request { .. }) => return Err("the daemon sent a request".to_owned()),
        Err(error) => match serde_json::from_slice(body) {
            Ok(Unknown::Event) => tracing::debug!("an event of a newer daemon"),
            Ok(Unknown::Response { id }) => {
                waiting.answer(id, |call| Err(ClientError::UnexpectedReply { op: call.op, found: error.to_string() }))
            }
            Err(_) => return Err(format!("the daemon sent what is no frame: {}", error.place())),
        },
    }
    Ok(())
}

/// A frame whose content this client does not know.
#[derive(Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
enum Unknown {
    Event,
    Response { id: u64 },
}
