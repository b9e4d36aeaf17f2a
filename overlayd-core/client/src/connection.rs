//! One connection to the daemon: a task that writes requests and a task that hands replies to their calls.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use futures_util::StreamExt;
use overlayd_protocol::{Frame, FrameCodec, Request, Response};
use serde::Deserialize;
use tokio::{
    io::{AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{broadcast, mpsc, oneshot},
    task::AbortHandle,
};
use tokio_util::codec::{Encoder, FramedRead};

use super::{
    ByteStream, ClientError, ClientResult, EventNotice,
    pending::{PendingCall, PendingCalls},
};

/// Requests that wait to be written before callers wait with them.
const WRITE_QUEUE: usize = 256;
/// Most bytes that are written together.
const BATCH: usize = 64 * 1024;
/// Time for the reader to take what a daemon sent before it hung up.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Room for the first bytes read.
const READ_ROOM: usize = 16 * 1024;

/// One connection and the calls that wait on it.
pub(super) struct DaemonConnection {
    outgoing: mpsc::Sender<BytesMut>,
    pending: Arc<PendingCalls>,
    reader: AbortHandle,
}

impl DaemonConnection {
    pub(super) fn start(stream: Box<dyn ByteStream>, endpoint: String, events: broadcast::Sender<EventNotice>) -> Self {
        let (read, write) = tokio::io::split(stream);
        let pending = Arc::new(PendingCalls::new(endpoint, events));
        let (outgoing, queue) = mpsc::channel(WRITE_QUEUE);
        let reader = tokio::spawn(read_all(read, Arc::clone(&pending))).abort_handle();
        tokio::spawn(write_all(write, queue, Arc::clone(&pending)));
        Self { outgoing, pending, reader }
    }

    pub(super) fn is_open(&self) -> bool {
        // The reader notices a daemon that hangs up, the writer a stream that fails; either ends the connection.
        !self.outgoing.is_closed() && !self.pending.is_broken()
    }

    /// Sends one request and waits for its reply. Dropping the call forgets it; its reply is then ignored.
    pub(super) async fn call(&self, request: Request) -> ClientResult<Response> {
        let op = request.op();
        let (reply, answer) = oneshot::channel();
        // Entered before it is sent: the reply can be there before this task runs again.
        let ticket = self.pending.enter(PendingCall { op, reply })?;
        let mut bytes = BytesMut::new();
        let frame = Frame::Request { id: ticket.id, request };
        FrameCodec
            .encode(&frame, &mut bytes)
            .map_err(|error| ClientError::Unsendable { op, reason: error.to_string().into() })?;
        // Both tasks of a broken connection leave its reason in the table.
        if self.outgoing.send(bytes).await.is_err() {
            return Err(self.pending.transport_error());
        }
        answer.await.unwrap_or_else(|_dropped| Err(self.pending.transport_error()))
    }
}

impl Drop for DaemonConnection {
    fn drop(&mut self) {
        // The writer ends with its queue; the reader would wait for the daemon to hang up first.
        self.reader.abort();
    }
}

/// Writes requests, those that wait together in one go.
async fn write_all(
    mut write: WriteHalf<Box<dyn ByteStream>>,
    mut queue: mpsc::Receiver<BytesMut>,
    pending: Arc<PendingCalls>,
) {
    while let Some(mut batch) = queue.recv().await {
        // Calls that are made at the same time share one write.
        while batch.len() < BATCH
            && let Ok(more) = queue.try_recv()
        {
            batch.extend_from_slice(&more);
        }
        if let Err(error) = write.write_all(&batch).await {
            drop(queue);
            // What the daemon sent last may still be on its way to the reader.
            tokio::time::sleep(LAST_WORDS).await;
            pending.break_off(&format!("could not write: {error}"));
            return;
        }
    }
    // The queue has ended, so that the client is dropped; the daemon need not wait for more.
    if let Err(error) = write.shutdown().await {
        tracing::debug!(%error, "the daemon had hung up before this client did");
    }
}

/// Hands replies to their calls and events to the program, until the connection ends.
async fn read_all(read: ReadHalf<Box<dyn ByteStream>>, pending: Arc<PendingCalls>) {
    let mut bodies = FramedRead::with_capacity(read, FrameCodec, READ_ROOM);
    let reason = loop {
        let taken = match bodies.next().await {
            Some(Ok(body)) => take(&body, &pending),
            Some(Err(error)) => Err(format!("could not read: {error}")),
            None => Err("the daemon closed it".to_owned()),
        };
        if let Err(reason) = taken {
            break reason;
        }
    };
    pending.break_off(&reason);
}

/// Takes one body in; an error says why the connection cannot go on.
fn take(body: &[u8], pending: &PendingCalls) -> Result<(), String> {
    match Frame::decode(body) {
        Ok(Frame::Response { id, response }) => pending.answer(id, |_| Ok(response)),
        Ok(Frame::Event(event)) => pending.notify(EventNotice::Event(Arc::new(event))),
        // No daemon does this, so the other end is something else.
        Ok(Frame::Request { .. }) => return Err("the daemon sent a request".to_owned()),
        // A newer daemon may send what this release cannot read. Only the call that it answers fails, if any.
        Err(error) => match serde_json::from_slice(body) {
            Ok(UnknownFrame::Event) => tracing::debug!("an event of a newer daemon"),
            Ok(UnknownFrame::Response { id }) => {
                pending.answer(id, |call| Err(ClientError::UnexpectedReply { op: call.op, found: error.to_string() }))
            }
            Err(_) => return Err(format!("the daemon sent what is no frame: {}", error.place())),
        },
    }
    Ok(())
}

/// A frame whose content this client does not know.
#[derive(Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
enum UnknownFrame {
    Event,
    Response { id: u64 },
}
