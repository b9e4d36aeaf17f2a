//! Cuts what arrives into bodies of frames, with bounds on time and memory.
//!
//! Four bytes can announce 8 MiB. So memory grows with what has arrived, not with what was announced, a frame that has
//! begun must end in time, and the large frames of all connections share one budget.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_util::codec::Decoder;

use crate::protocol::{CodecError, FrameCodec};

/// Room for the first bytes of a connection, and least room for each read.
const CHUNK: usize = 8 * 1024;
/// Most room for a single read, so that memory stays in proportion to what has arrived.
const MAX_CHUNK: usize = 1024 * 1024;

/// Size up to which a frame takes nothing of the budget.
const FREE: usize = 64 * 1024;
/// The budget is counted in units of this many bytes.
const UNIT: usize = 1024;

/// Memory for the large frames of all connections together.
#[derive(Debug, Clone)]
pub(super) struct LargeFrameBudget(Arc<Semaphore>);

impl LargeFrameBudget {
    /// A budget of this many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).min(Semaphore::MAX_PERMITS))))
    }
}

/// Cuts what arrives into bodies, with a deadline for each that has begun.
pub(super) struct FrameReader<R> {
    budget: LargeFrameBudget,
    /// What this connection holds of the budget.
    held: Option<OwnedSemaphorePermit>,
    stream: R,
    buffer: BytesMut,
    deadline: Duration,
    /// When the frame that has begun must be complete.
    due: Option<Instant>,
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// More bytes.
    More,
    /// The client has said all it will say.
    End,
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The header announces too long a body.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The stream failed.
    #[error("could not read: {0}")]
    Io(#[from] std::io::Error),
    /// The stream ended inside a body.
    #[error("the stream ended inside a frame, after {0} bytes")]
    Cut(usize),
    /// A frame was begun and not finished.
    #[error("a frame was begun and not finished within {} ms", .0.as_millis())]
    Overdue(Duration),
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R, deadline: Duration, budget: LargeFrameBudget) -> Self {
        Self { budget, held: None, stream, buffer: BytesMut::with_capacity(CHUNK), deadline, due: None }
    }

    /// The next body, if all of it has arrived.
    pub(super) fn take(&mut self) -> Result<Option<BytesMut>, ReadError> {
        // The header is checked as soon as it is there: a body that is too long is refused before it arrives.
        let Some(body) = FrameCodec.decode(&mut self.buffer)? else { return Ok(None) };
        self.due = None;
        if body.len() > FREE {
            // What follows moves out, or the buffer would keep the large frame's memory for good.
            let rest = std::mem::take(&mut self.buffer);
            self.buffer.extend_from_slice(&rest);
        }
        // The permit follows the memory, not the frame: a buffer that is still large keeps its share.
        if self.buffer.capacity() <= FREE {
            self.held = None;
        }
        Ok(Some(body))
    }

    /// Stops the clock of the frame that has begun, while it is the daemon that does not read.
    pub(super) fn pause(&mut self) {
        self.due = None;
    }

    /// Waits for more bytes. May be dropped and called again without losing any.
    pub(super) async fn fill(&mut self) -> Result<ReadOutcome, ReadError> {
        let read = if self.buffer.is_empty() {
            // Between frames a connection may idle for ever: orchestrators keep theirs open for days.
            self.make_room();
            self.stream.read_buf(&mut self.buffer).await?
        } else {
            let due = *self.due.get_or_insert_with(|| Instant::now() + self.deadline);
            // Waiting for the budget counts as well, so that large frames which never end free it within the deadline.
            timeout_at(due, self.take_from_budget()).await.map_err(|_elapsed| ReadError::Overdue(self.deadline))?;
            self.make_room();
            let read = timeout_at(due, self.stream.read_buf(&mut self.buffer)).await;
            read.map_err(|_elapsed| ReadError::Overdue(self.deadline))??
        };
        match read {
            // The published daemon takes an end inside the header for an orderly close.
            0 if self.buffer.len() > 4 => Err(ReadError::Cut(self.buffer.len())),
            0 => Ok(ReadOutcome::End),
            _ => Ok(ReadOutcome::More),
        }
    }

    /// Waits until the budget lets this connection grow beyond what is free to each.
    async fn take_from_budget(&mut self) {
        if !self.needs_more() {
            return;
        }
        let wanted = self.buffer.len() + self.growth();
        // Only what exceeds the free part counts, in whole units, less what this connection holds already.
        let have = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = wanted.saturating_sub(FREE).div_ceil(UNIT).saturating_sub(have);
        let Some(more) = u32::try_from(more).ok().filter(|more| *more > 0) else { return };
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&self.budget.0).acquire_many_owned(more).await else { return };
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
    }

    fn needs_more(&self) -> bool {
        self.buffer.capacity() - self.buffer.len() < CHUNK / 2
    }

    fn growth(&self) -> usize {
        self.buffer.len().clamp(CHUNK, MAX_CHUNK)
    }

    /// Grows with what has arrived.
    fn make_room(&mut self) {
        if self.needs_more() {
            self.buffer.reserve(self.growth());
        }
    }

    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        self.buffer.capacity()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::protocol::MAX_FRAME_LEN;

    #[tokio::test(start_paused = true)]
    async fn a_header_that_promises_8_mib_costs_the_daemon_next_to_nothing() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut reader = FrameReader::new(server, Duration::from_secs(10), LargeFrameBudget::new(64 << 20));
        client.write_all(&(MAX_FRAME_LEN as u32).to_le_bytes()).await.unwrap();
        client.write_all(b"{").await.unwrap();
        assert_eq!(reader.fill().await.unwrap(), ReadOutcome::More);
        assert!(reader.take().unwrap().is_none());
        assert!(reader.reserved() <= 2 * CHUNK, "{}", reader.reserved());
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_is_begun_must_end_in_time_and_an_idle_connection_need_not_begin_one() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut reader = FrameReader::new(server, Duration::from_secs(10), LargeFrameBudget::new(64 << 20));
        let idle = tokio::time::timeout(Duration::from_secs(86_400), reader.fill()).await;
        assert!(idle.is_err(), "an idle connection was given up: {idle:?}");

        client.write_all(&[9, 0]).await.unwrap();
        let begun = Instant::now();
        assert_eq!(reader.fill().await.unwrap(), ReadOutcome::More);
        // One more byte every six seconds does not buy more time.
        let drip = tokio::spawn(async move {
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_secs(6)).await;
                if client.write_all(&[0]).await.is_err() {
                    break;
                }
            }
        });
        let error = loop {
            match reader.fill().await {
                Ok(_) => assert!(reader.take().unwrap().is_none()),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ReadError::Overdue(_)), "{error}");
        assert_eq!(begun.elapsed().as_secs(), 10);
        drip.abort();
    }

    #[tokio::test]
    async fn the_memory_of_a_large_frame_is_let_go() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut reader = FrameReader::new(server, Duration::from_secs(10), LargeFrameBudget::new(64 << 20));
        let sender = tokio::spawn(async move {
            client.write_all(&(MAX_FRAME_LEN as u32).to_le_bytes()).await.unwrap();
            client.write_all(&vec![b' '; MAX_FRAME_LEN]).await.unwrap();
            client
        });
        let body = loop {
            if let Some(body) = reader.take().unwrap() {
                break body;
            }
            reader.fill().await.unwrap();
        };
        assert_eq!(body.len(), MAX_FRAME_LEN);
        drop(body);
        let mut client = sender.await.unwrap();
        client.write_all(&[0]).await.unwrap();
        reader.fill().await.unwrap();
        assert!(reader.reserved() <= 2 * CHUNK, "{}", reader.reserved());
    }

    /// A frame of 1 MiB of which all but the last byte is written.
    async fn begin(client: &mut tokio::io::DuplexStream) {
        client.write_all(&(1u32 << 20).to_le_bytes()).await.unwrap();
        client.write_all(&vec![b' '; (1 << 20) - 1]).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn large_frames_wait_for_room_and_get_it_when_another_ends() {
        let budget = LargeFrameBudget::new(3 << 20);
        let reader = |server| FrameReader::new(server, Duration::from_secs(10), budget.clone());
        let (mut first_client, first) = tokio::io::duplex(2 << 20);
        let (mut second_client, second) = tokio::io::duplex(2 << 20);
        let mut first = reader(first);
        let mut second = reader(second);
        begin(&mut first_client).await;
        begin(&mut second_client).await;
        while first.buffer.len() < (1 << 20) {
            first.fill().await.unwrap();
        }
        let late = loop {
            match second.fill().await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(late, ReadError::Overdue(_)), "{late}");
        drop(second);
        first_client.write_all(b"x").await.unwrap();
        while first.take().unwrap().is_none() {
            first.fill().await.unwrap();
        }
        let (mut third_client, third) = tokio::io::duplex(2 << 20);
        let mut third = reader(third);
        begin(&mut third_client).await;
        third_client.write_all(b"x").await.unwrap();
        while third.take().unwrap().is_none() {
            third.fill().await.unwrap();
        }
    }
}
