//! Replies on their way to the wire. Long ones are written as JSON on a thread of their own.

use bytes::BytesMut;
use tokio_util::codec::Encoder;

use crate::protocol::{CodecError, Frame, FrameCodec, MAX_FRAME_LEN, Response};

/// Things that a short reply lists at most.
const SHORT: usize = 256;
/// Bytes that one of them takes, as a guess.
const LINE: usize = 160;

/// A reply on its way to the wire.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one is made per request and written at once; a box would cost each reply an allocation"
)]
pub(super) enum OutgoingReply {
    /// Written where it is sent.
    Short(Response),
    /// The whole frame. A long one takes milliseconds to write, for which it has a thread of its own: other connections
    /// that share the thread of its connection do not wait for it.
    Long(Result<BytesMut, CodecError>),
}

impl OutgoingReply {
    /// The reply to the request `id`.
    pub(super) async fn new(id: u64, response: Response) -> Self {
        let listed = response.listed();
        // What it lists is counted, because writing it to learn its length is the very cost to avoid.
        if listed <= SHORT {
            return Self::Short(response);
        }
        let written = tokio::task::spawn_blocking(move || {
            let mut frame = BytesMut::with_capacity(listed * LINE);
            write(id, response, &mut frame).map(|()| frame)
        });
        Self::Long(written.await.unwrap_or_else(|failed| Err(CodecError::Io(failed.into()))))
    }
}

/// Appends the reply; one that is too long for a frame becomes `err`.
pub(super) fn write(id: u64, response: Response, into: &mut BytesMut) -> Result<(), CodecError> {
    let kind = response.result();
    match FrameCodec.encode(&Frame::Response { id, response }, into) {
        // The published daemon closes the connection here, and its client cannot tell why.
        Err(CodecError::TooLong { len }) => {
            tracing::warn!(result = kind, len, "a reply was too long to send");
            let response = Response::err(
                "too_long",
                format_args!("the `{kind}` reply of {len} bytes exceeds the limit of {MAX_FRAME_LEN} for a frame"),
            );
            FrameCodec.encode(&Frame::Response { id, response }, into)
        }
        written => written,
    }
}
