use std::time::Duration;

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, timeout_at},
};
use tokio_util::codec::Decoder;

use super::{CodecError, FrameCodec};

/// Room for the first bytes of a connection, and least room for each read.
const CHUNK: usize = 8 * 1024;
/// Most room for a single read, so that memory stays in proportion to what has arrived.
const MAX_CHUNK: usize = 1024 * 1024;

/// Cuts what arrives into bodies, with a deadline for each that has begun.
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    deadline: Duration,
    /// When the frame that has begun must be complete.
    due: Option<Instant>,
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filled {
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
    pub(super) fn new(stream: R, deadline: Duration) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(CHUNK), deadline, due: None }
    }

    /// The next body, if all of it has arrived.
    pub(super) fn take(&mut self) -> Result<Option<BytesMut>, ReadError> {
        let Some(body) = FrameCodec.decode(&mut self.buffer)? else { return Ok(None) };
        self.due = None;
        if body.len() > MAX_CHUNK {
            // What follows moves out, or the buffer would keep the large frame's memory for good.
            let rest = std::mem::take(&mut self.buffer);
            self.buffer.extend_from_slice(&rest);
        }
        Ok(Some(body))
    }

    /// Stops the clock of the frame that has begun, while it is the daemon that does not read.
    pub(super) fn pause(&mut self) {
        self.due = None;
    }

    /// Waits for more bytes. May be dropped and called again without losing any.
    pub(super) async fn fill(&mut self) -> Result<Filled, ReadError> {
        self.make_room();
        let read = if self.buffer.is_empty() {
            self.stream.read_buf(&mut self.buffer).await?
        } else {
            let due = *self.due.get_or_insert_with(|| Instant::now() + self.deadline);
            let read = timeout_at(due, self.stream.read_buf(&mut self.buffer)).await;
            read.map_err(|_elapsed| ReadError::Overdue(self.deadline))??
        };
        match read {
            0 if self.buffer.len() > 4 => Err(ReadError::Cut(self.buffer.len())),
            0 => Ok(Filled::End),
            _ => Ok(Filled::More),
        }
    }

    /// Grows with what has arrived.
    fn make_room(&mut self) {
        if self.buffer.capacity() - self.buffer.len() < CHUNK / 2 {
            self.buffer.reserve(self.buffer.len().clamp(CHUNK, MAX_CHUNK));
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
        let mut reader = FrameReader::new(server, Duration::from_secs(10));
        client.write_all(&(MAX_FRAME_LEN as u32).to_le_bytes()).await.unwrap();
        client.write_all(b"{").await.unwrap();
        assert_eq!(reader.fill().await.unwrap(), Filled::More);
        assert!(reader.take().unwrap().is_none());
        assert!(reader.reserved() <= 2 * CHUNK, "{}", reader.reserved());
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_is_begun_must_end_in_time_and_an_idle_connection_need_not_begin_one() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut reader = FrameReader::new(server, Duration::from_secs(10));
        let idle = tokio::time::timeout(Duration::from_secs(86_400), reader.fill()).await;
        assert!(idle.is_err(), "an idle connection was given up: {idle:?}");

        client.write_all(&[9, 0]).await.unwrap();
        let begun = Instant::now();
        assert_eq!(reader.fill().await.unwrap(), Filled::More);
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
        let mut reader = FrameReader::new(server, Duration::from_secs(10));
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
}
