//! How frames are cut from a stream and put into it.

use bytes::{Buf, BufMut, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::{Frame, MAX_FRAME_LEN};

/// Bytes of the length that precedes every body.
const HEADER_LEN: usize = 4;

/// Splits a stream into bodies: a length (u32, little-endian, of the body alone), then the body, at most
/// [`MAX_FRAME_LEN`] bytes.
///
/// It reserves nothing on the word of a header: buffers grow with the bytes that have really arrived. A generic
/// length-delimited codec reserves the announced length at once, which lets four bytes claim 8 MiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameCodec;

/// Why a stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The header announces, or the frame to send has, a body that is too long.
    #[error("a frame of {len} bytes exceeds the limit of {MAX_FRAME_LEN}")]
    TooLong {
        /// Length of the body.
        len: usize,
    },
    /// The frame could not be written as JSON.
    #[error("could not encode a frame: {0}")]
    Encode(#[source] serde_json::Error),
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Decoder for FrameCodec {
    type Item = BytesMut;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<BytesMut>, CodecError> {
        let Some(header) = src.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let len = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
        if len > MAX_FRAME_LEN {
            return Err(CodecError::TooLong { len });
        }
        // No `reserve` here: the length is only an announcement, which any client can make.
        if src.len() < HEADER_LEN + len {
            return Ok(None);
        }
        src.advance(HEADER_LEN);
        Ok(Some(src.split_to(len)))
    }
}

impl Encoder<&Frame> for FrameCodec {
    type Error = CodecError;

    /// Appends the frame; when that fails `dst` is as before.
    fn encode(&mut self, frame: &Frame, dst: &mut BytesMut) -> Result<(), CodecError> {
        // The length is known once the body is written, so that its place is reserved first and filled in afterwards.
        let start = dst.len();
        dst.put_u32_le(0);
        let written = serde_json::to_writer(dst.writer(), frame).map_err(CodecError::Encode);
        let checked = written.and_then(|()| body_len(dst.len() - start - HEADER_LEN));
        match checked {
            Ok(len) => dst[start..start + HEADER_LEN].copy_from_slice(&len.to_le_bytes()),
            Err(_) => dst.truncate(start),
        }
        checked.map(drop)
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = CodecError;

    fn encode(&mut self, frame: Frame, dst: &mut BytesMut) -> Result<(), CodecError> {
        self.encode(&frame, dst)
    }
}

/// The header for a body of `len` bytes.
fn body_len(len: usize) -> Result<u32, CodecError> {
    match u32::try_from(len) {
        Ok(header) if len <= MAX_FRAME_LEN => Ok(header),
        _ => Err(CodecError::TooLong { len }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Request, Response};

    fn encoded(frame: &Frame) -> BytesMut {
        let mut bytes = BytesMut::new();
        FrameCodec.encode(frame, &mut bytes).unwrap();
        bytes
    }

    /// A reply whose body has exactly `len` bytes.
    fn reply_of(len: usize) -> Frame {
        let frame = |message: String| Frame::Response { id: 1, response: Response::Err { message, code: None } };
        let overhead = frame(String::new()).encode().unwrap().len();
        frame("x".repeat(len - overhead))
    }

    #[test]
    fn a_frame_arrives_whole_however_it_is_cut() {
        let bytes = encoded(&Frame::Request { id: 3, request: Request::Status });
        let mut src = BytesMut::new();
        for (at, byte) in bytes.iter().enumerate() {
            assert!(FrameCodec.decode(&mut src).unwrap().is_none(), "after {at} bytes");
            src.put_u8(*byte);
        }
        let body = FrameCodec.decode(&mut src).unwrap().unwrap();
        assert_eq!(Frame::decode(&body).unwrap(), Frame::Request { id: 3, request: Request::Status });
        assert!(src.is_empty());
    }

    #[test]
    fn the_limit_is_inclusive_both_ways() {
        let mut largest = encoded(&reply_of(MAX_FRAME_LEN));
        assert_eq!(largest.len(), MAX_FRAME_LEN + HEADER_LEN);
        assert_eq!(FrameCodec.decode(&mut largest).unwrap().unwrap().len(), MAX_FRAME_LEN);

        let mut dst = BytesMut::from(&b"before"[..]);
        let refused = FrameCodec.encode(&reply_of(MAX_FRAME_LEN + 1), &mut dst);
        assert!(matches!(refused, Err(CodecError::TooLong { len }) if len == MAX_FRAME_LEN + 1));
        assert_eq!(&dst[..], b"before");

        let mut header = BytesMut::from(&(MAX_FRAME_LEN as u32 + 1).to_le_bytes()[..]);
        assert!(matches!(FrameCodec.decode(&mut header), Err(CodecError::TooLong { .. })));
    }

    #[test]
    fn a_header_alone_reserves_nothing() {
        let mut src = BytesMut::with_capacity(64);
        src.put_u32_le(MAX_FRAME_LEN as u32);
        assert!(FrameCodec.decode(&mut src).unwrap().is_none());
        assert!(src.capacity() <= 64, "{}", src.capacity());
    }
}
