//! The format of DNS messages (RFC 1035, RFC 6891), in the four roles they have here: a client's query, the reply to
//! it, the question to an upstream, and what the upstream answers. Everything here is pure: bytes in, bytes out.

mod query;
mod question;
mod reply;
mod upstream_answer;

pub use self::{query::QueryTransport, upstream_answer::UpstreamAnswer};
pub(crate) use self::{
    query::{DnsQuery, QueryError},
    question::{EdnsOffer, UpstreamQuestion},
    reply::{ReplyTarget, compose, write_code, write_error},
    upstream_answer::AnswerError,
};

/// Length of a message's header in bytes.
const HEADER_LEN: usize = 12;
/// Length of an OPT record without options, in bytes.
const OPT_LEN: usize = 11;
/// Largest answer over UDP that is sent and asked for: what fits the smallest usual path without fragments (DNS flag
/// day 2020).
const UDP_PAYLOAD: u16 = 1232;
