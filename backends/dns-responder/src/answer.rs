//! Decides what a message is answered with. Pure, bytes in and bytes out, and so the place to fuzz.

use std::sync::Arc;

use domain::base::iana::OptRcode;

use crate::{
    authority::write_local,
    forward::{ForwardOutcome, ForwardRequest},
    name::KeyBuf,
    wire::{DnsQuery, QueryError, QueryTransport, write_code, write_error},
    zones::{NameLookup, ZoneView},
};

/// What becomes of a message.
#[derive(Debug)]
pub enum QueryVerdict {
    /// It is ignored.
    Drop,
    /// The answer was written.
    Reply,
    /// An upstream is to be asked; [`forwarded`] writes the answer then.
    Forward(ForwardRequest),
}

/// Answers a message as the view has it. `out` is overwritten.
pub fn answer(view: &ZoneView, message: &[u8], transport: QueryTransport, out: &mut Vec<u8>) -> QueryVerdict {
    let query = match DnsQuery::parse(message, transport) {
        Ok(query) => query,
        Err(error) => return refuse(error, out),
    };
    let key = KeyBuf::of(&query.name);
    let servers = match view.find(&key) {
        NameLookup::Local(node) => {
            write_local(view, &query, &key, &node, out);
            return QueryVerdict::Reply;
        }
        NameLookup::Split(servers) => Some(Arc::clone(servers)),
        NameLookup::Upstream => None,
    };
    // Without RD the client wants what this server itself knows (RFC 1034, section 4.3.1), which is nothing here.
    if query.header.rd() {
        return QueryVerdict::Forward(ForwardRequest { question: query.to_forward(), servers });
    }
    write_code(&query, OptRcode::REFUSED, out);
    QueryVerdict::Reply
}

/// Answers a message with what others said. `out` is overwritten.
pub fn forwarded(
    message: &[u8],
    transport: QueryTransport,
    outcome: &ForwardOutcome,
    out: &mut Vec<u8>,
) -> QueryVerdict {
    let query = match DnsQuery::parse(message, transport) {
        Ok(query) => query,
        Err(error) => return refuse(error, out),
    };
    match outcome {
        ForwardOutcome::Answered(answer, age) => answer.write(&query, *age, out),
        ForwardOutcome::NoUpstream => write_code(&query, OptRcode::REFUSED, out),
        ForwardOutcome::Failed => write_code(&query, OptRcode::SERVFAIL, out),
    }
    QueryVerdict::Reply
}

fn refuse(error: QueryError<'_>, out: &mut Vec<u8>) -> QueryVerdict {
    if write_error(error, out) { QueryVerdict::Reply } else { QueryVerdict::Drop }
}

#[cfg(test)]
mod tests;
