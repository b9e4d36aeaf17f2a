//! Replies, as they are sent to a client.

use domain::base::{
    MessageBuilder, StaticCompressor,
    iana::OptRcode,
    message_builder::{AdditionalBuilder, AnswerBuilder, PushError},
};

use super::{
    HEADER_LEN, OPT_LEN, UDP_PAYLOAD,
    query::{DnsQuery, QueryError},
};

/// Where a reply is written: a buffer, with names compressed against those written before.
pub(crate) type ReplyTarget = StaticCompressor<Vec<u8>>;

/// Replies to a query that cannot be answered as asked. Returns whether anything is to be sent.
pub(crate) fn write_error(error: QueryError<'_>, out: &mut Vec<u8>) -> bool {
    match error {
        QueryError::Ignored => return false,
        QueryError::Refused(query, code) => write_code(&query, code, out),
        QueryError::Header(asked, code) => {
            let mut header = asked;
            header.set_qr(true);
            header.set_aa(false);
            header.set_tc(false);
            header.set_ra(true);
            header.set_z(false);
            header.set_ad(false);
            header.set_rcode(code);
            out.clear();
            out.extend_from_slice(header.as_slice());
            out.resize(HEADER_LEN, 0);
        }
    }
    true
}

/// Replies with a code and no records.
pub(crate) fn write_code(query: &DnsQuery<'_>, code: OptRcode, out: &mut Vec<u8>) {
    compose(query, code, out, |answer| Ok(answer.additional()));
}

/// Says that the answer is too large for a datagram, so that the asker comes again over TCP.
pub(crate) fn write_truncated(query: &DnsQuery<'_>, code: OptRcode, out: &mut Vec<u8>) {
    compose(query, code, out, |mut answer| {
        answer.header_mut().set_tc(true);
        Ok(answer.additional())
    });
}

/// Writes an answer: header, question, what `fill` adds, and an OPT record if the asker sent one. What does not fit is
/// left out as a whole and said to be truncated.
pub(crate) fn compose(
    query: &DnsQuery<'_>,
    code: OptRcode,
    out: &mut Vec<u8>,
    fill: impl FnOnce(AnswerBuilder<ReplyTarget>) -> Result<AdditionalBuilder<ReplyTarget>, PushError>,
) {
    let written = start(query, code, std::mem::take(out)).and_then(fill).and_then(|reply| finish(query, code, reply));
    match written {
        Ok(reply) => *out = reply,
        // The builder took the buffer with it; the truncated reply is written to a new one.
        Err(_) => write_truncated(query, code, out),
    }
}

fn start(query: &DnsQuery<'_>, code: OptRcode, target: Vec<u8>) -> Result<AnswerBuilder<ReplyTarget>, PushError> {
    let Ok(mut builder) = MessageBuilder::from_target(StaticCompressor::new(target));
    let header = builder.header_mut();
    header.set_id(query.header.id());
    header.set_qr(true);
    header.set_rd(query.header.rd());
    header.set_cd(query.header.cd());
    header.set_ra(true);
    header.set_rcode(code.rcode());
    // The builder refuses what reaches the limit, and the answer may be as long as the limit.
    builder.set_push_limit(query.limit + 1 - query.edns.map_or(0, |_| OPT_LEN));
    let mut builder = builder.question();
    builder.push((query.name, query.qtype, query.class))?;
    Ok(builder.answer())
}

fn finish(
    query: &DnsQuery<'_>,
    code: OptRcode,
    mut reply: AdditionalBuilder<ReplyTarget>,
) -> Result<Vec<u8>, PushError> {
    if let Some(edns) = query.edns {
        reply.clear_push_limit();
        reply.opt(|opt| {
            opt.set_udp_payload_size(UDP_PAYLOAD);
            opt.set_rcode(code);
            opt.set_dnssec_ok(edns.dnssec_ok);
            Ok(())
        })?;
    }
    Ok(reply.finish().into_target())
}
