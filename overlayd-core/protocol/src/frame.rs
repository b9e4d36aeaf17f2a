//! Frames: one message each, and how a body is read and written.

use serde::{Deserialize, Serialize};

use super::{Event, Request, Response};

/// Largest body of a frame in bytes, inclusive, in both directions.
pub const MAX_FRAME_LEN: usize = 8 * 1024 * 1024;

/// Version of the protocol. It is announced by `hello` and travels nowhere else.
pub const PROTOCOL_VERSION: u32 = 1;

/// One message: the body of a length-prefixed frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum Frame {
    /// Client to server.
    Request {
        /// Chosen by the client, echoed in the reply.
        id: u64,
        /// What is asked.
        request: Request,
    },
    /// Server to client, exactly one for each request.
    Response {
        /// The id of the request.
        id: u64,
        /// The answer.
        response: Response,
    },
    /// Server to client, at any time between two other frames.
    Event(Event),
}

impl Frame {
    /// Reads one body.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        Ok(serde_json::from_slice(body)?)
    }

    /// Writes the canonical body.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        Ok(serde_json::to_vec(self)?)
    }
}

/// A body that is no frame.
#[derive(Debug, thiserror::Error)]
#[error("not a frame: {0}")]
pub struct DecodeError(#[from] serde_json::Error);

impl DecodeError {
    /// What kind of fault there is and where, without quoting the body, which may hold secrets: for logs.
    pub fn place(&self) -> String {
        // serde's own message quotes the value it did not expect, which may be a private key.
        let kind = match self.0.classify() {
            serde_json::error::Category::Data => "valid JSON of another shape",
            serde_json::error::Category::Eof => "JSON that ends too early",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "no valid JSON",
        };
        format!("{kind}, column {}", self.0.column())
    }
}

/// A frame that could not be written as JSON.
#[derive(Debug, thiserror::Error)]
#[error("could not encode a frame: {0}")]
pub struct EncodeError(#[from] serde_json::Error);

/// The id of a request whose body is JSON but no frame, so that it can be answered with `err`.
///
/// `None` when the body is not one JSON object, has no readable `id`, or says that it is a response or an event.
pub fn salvage_id(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Envelope {
        id: u64,
        #[serde(default)]
        frame: serde_json::Value,
    }
    // An unreadable envelope is the answer "no id" and nothing to report: the caller holds the decoder's own error.
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    // A client must not get an answer to what it did not ask: a broken response or event is not a request.
    let answerable = !matches!(envelope.frame.as_str(), Some("response" | "event"));
    answerable.then_some(envelope.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_request_with_a_readable_id_can_be_answered() {
        assert_eq!(salvage_id(br#"{"frame":"request","id":7,"request":{"op":"reload"}}"#), Some(7));
        assert_eq!(salvage_id(br#"{"id":8,"request":{"op":"status"}}"#), Some(8));
        assert_eq!(salvage_id(br#"{"frame":"ping","id":9}"#), Some(9));
    }

    #[test]
    fn a_body_without_a_readable_request_id_cannot() {
        let bodies: [&[u8]; 6] = [
            b"",
            b"hello",
            br#"{"frame":"request","id":"1"}"#,
            br#"{"frame":"request","id":1.0}"#,
            br#"{"frame":"response","id":1,"response":{"result":"done"}}"#,
            br#"{"frame":"event","id":1,"event":"peer_added"}"#,
        ];
        for body in bodies {
            assert_eq!(salvage_id(body), None, "{}", String::from_utf8_lossy(body));
        }
    }
}
