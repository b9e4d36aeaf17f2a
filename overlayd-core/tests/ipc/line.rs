//! A client that speaks bytes.

use futures_util::FutureExt as _;
use overlayd_core::protocol::{Frame, FrameCodec, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::{
    bytes::BytesMut,
    codec::{Decoder, Encoder},
};

/// A client's end that reads frames.
pub(crate) struct Line {
    pub(crate) stream: DuplexStream,
    buffer: BytesMut,
}

impl Line {
    pub(crate) fn new(stream: DuplexStream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    pub(crate) async fn say(&mut self, id: u64, request: Request) {
        self.stream.write_all(&request_bytes(id, request)).await.unwrap();
    }

    pub(crate) async fn say_body(&mut self, body: &[u8]) {
        self.stream.write_u32_le(u32::try_from(body.len()).unwrap()).await.unwrap();
        self.stream.write_all(body).await.unwrap();
    }

    /// The next frame, or `None` at the end of the stream.
    pub(crate) async fn hear(&mut self) -> Option<Frame> {
        loop {
            if let Some(body) = FrameCodec.decode(&mut self.buffer).unwrap() {
                return Some(Frame::decode(&body).unwrap());
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap() == 0 {
                return None;
            }
        }
    }

    /// Whether nothing has arrived, and nothing arrives while other tasks run.
    pub(crate) async fn is_silent(&mut self) -> bool {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        self.buffer.is_empty() && self.stream.read_buf(&mut self.buffer).now_or_never().is_none()
    }

    pub(crate) async fn hear_reply(&mut self) -> (u64, Response) {
        match self.hear().await {
            Some(Frame::Response { id, response }) => (id, response),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn request_bytes(id: u64, request: Request) -> BytesMut {
    let mut bytes = BytesMut::new();
    FrameCodec.encode(&Frame::Request { id, request }, &mut bytes).unwrap();
    bytes
}
