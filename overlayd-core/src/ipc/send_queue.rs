//! Frames on their way to the client. Nothing here waits on its own: the connection decides when to write.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::Instant,
};
use tokio_util::codec::Encoder;

use super::reply::{self, OutgoingReply};
use crate::protocol::{CodecError, Event, Frame, FrameCodec};

/// Bytes that may wait before no further request is taken on.
const HIGH_WATER: usize = 64 * 1024;
/// Size beyond which an empty buffer's memory is given back.
const KEEP: usize = 4 * HIGH_WATER;

/// Whole frames on their way out. They are pushed without waiting, and [`SendQueue::write`] is one of the things that the
/// connection waits for at the same time.
pub(super) struct SendQueue<W> {
    stream: W,
    /// What is sent before the rest: long frames, and what was queued before them.
    first: VecDeque<BytesMut>,
    buffer: BytesMut,
    /// Most that has waited since the buffer was last made; it holds at least that much memory.
    peak: usize,
    /// Since when a reply waits without the client taking any of it.
    waiting: Option<Instant>,
}

impl<W: AsyncWrite + Unpin> SendQueue<W> {
    pub(super) fn new(stream: W) -> Self {
        Self { stream, first: VecDeque::new(), buffer: BytesMut::new(), peak: 0, waiting: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.buffer.is_empty()
    }

    /// Whether so much waits that the client should read before it asks more.
    pub(super) fn is_full(&self) -> bool {
        self.first.iter().map(BytesMut::len).sum::<usize>() + self.buffer.len() >= HIGH_WATER
    }

    /// Since when a reply waits for a client that takes nothing. Events may wait for ever: a client that asks for nothing need
    /// not read.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.waiting
    }

    /// Queues a reply.
    pub(super) fn push_reply(&mut self, id: u64, reply: OutgoingReply) -> Result<(), CodecError> {
        self.waiting.get_or_insert_with(Instant::now);
        match reply {
            OutgoingReply::Short(response) => reply::write(id, response, &mut self.buffer),
            OutgoingReply::Long(frame) => {
                // What was queued earlier goes first: replies keep the order of their requests.
                let before = std::mem::take(&mut self.buffer);
                self.first.extend([before, frame?].into_iter().filter(|bytes| !bytes.is_empty()));
                self.peak = 0;
                Ok(())
            }
        }
    }

    /// Queues an event.
    pub(super) fn push_event(&mut self, event: &Event) -> Result<(), CodecError> {
        FrameCodec.encode(&Frame::Event(event.clone()), &mut self.buffer)
    }

    /// Writes some of what waits. May be dropped and called again without losing or repeating a byte.
    pub(super) async fn write(&mut self) -> std::io::Result<()> {
        self.peak = self.peak.max(self.buffer.len());
        let bytes = self.first.front_mut().unwrap_or(&mut self.buffer);
        if self.stream.write_buf(bytes).await? == 0 && bytes.has_remaining() {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        while self.first.front().is_some_and(BytesMut::is_empty) {
            self.first.pop_front();
        }
        // The client took some of it, so that its time begins anew.
        self.waiting = self.waiting.filter(|_| !self.is_empty()).map(|_| Instant::now());
        // One long reply must not keep its memory for as long as the connection is open.
        if self.buffer.is_empty() && self.peak > KEEP {
            self.buffer = BytesMut::new();
            self.peak = 0;
        }
        Ok(())
    }

    /// Writes all that waits and ends the stream.
    pub(super) async fn finish(&mut self) -> std::io::Result<()> {
        while !self.is_empty() {
            self.write().await?;
        }
        self.stream.shutdown().await
    }
}
