//! Bytes in, bytes out: what a message is answered with. Pure, and so the place to fuzz.

use std::{net::IpAddr, sync::Arc};

use domain::{
    base::{
        MessageBuilder, Name, Rtype, Serial, StaticCompressor, ToName, Ttl,
        iana::{Class, OptRcode},
        message_builder::{AdditionalBuilder, AnswerBuilder, PushError, RecordSectionBuilder},
    },
    rdata::{A, Aaaa, Ns, Ptr, Soa},
};

use crate::{
    forward::{EdnsOffer, UpstreamAnswer, UpstreamQuestion},
    name::{KeyBuf, NameKey, to_name},
    query::{DnsQuery, HEADER, QueryError, QueryTransport, UDP_PAYLOAD},
    zones::{LocalName, NameContent, NameLookup, ZoneView},
};

/// Longest that others may keep that a name does not exist: it may be registered at any moment.
const NEGATIVE_TTL: Ttl = Ttl::from_secs(5);
/// Most names told for one address.
const MAX_POINTERS: usize = 32;
/// Room an OPT record without options takes, in bytes.
const OPT_LEN: usize = 11;

/// What becomes of a message.
#[derive(Debug)]
pub enum QueryVerdict {
    /// It is ignored.
    Drop,
    /// The answer was written.
    Reply,
    /// Somebody else is to be asked; [`forwarded`] makes the answer then.
    Forward(ForwardRequest),
}

/// What to ask others for.
#[derive(Debug, Clone)]
pub struct ForwardRequest {
    pub(crate) question: UpstreamQuestion,
    /// The servers of a split zone; `None` is the upstreams.
    pub(crate) servers: Option<Arc<[std::net::SocketAddr]>>,
}

impl ForwardRequest {
    /// The message that asks a server.
    pub fn to_message(&self, id: u16) -> Result<Vec<u8>, PushError> {
        self.question.to_message(id, EdnsOffer::Edns)
    }

    /// What a server's message says to it, if it is an answer to the message with this id.
    pub fn understood(&self, message: &[u8], id: u16) -> Option<UpstreamAnswer> {
        UpstreamAnswer::read(message, id, &self.question).ok()
    }
}

/// How asking others ended.
#[derive(Debug, Clone)]
pub enum ForwardOutcome {
    /// They answered, so many seconds ago.
    Answered(Arc<UpstreamAnswer>, u32),
    /// No upstream is configured.
    NoUpstream,
    /// No upstream answered in time.
    Failed,
}

type ReplyTarget = StaticCompressor<Vec<u8>>;

/// Answers a message as the view has it. `out` is overwritten.
pub fn answer(view: &ZoneView, message: &[u8], transport: QueryTransport, out: &mut Vec<u8>) -> QueryVerdict {
    let query = match DnsQuery::parse(message, transport) {
        Ok(query) => query,
        Err(unanswerable) => return refuse(unanswerable, out),
    };
    let key = KeyBuf::of(&query.name);
    let servers = match view.find(&key) {
        NameLookup::Local(node) => {
            write_ours(view, &query, &key, &node, out);
            return QueryVerdict::Reply;
        }
        NameLookup::Split(servers) => Some(Arc::clone(servers)),
        NameLookup::Upstream => None,
    };
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
        Err(unanswerable) => return refuse(unanswerable, out),
    };
    match outcome {
        ForwardOutcome::Answered(answer, age) => answer.write(&query, *age, out),
        ForwardOutcome::NoUpstream => write_code(&query, OptRcode::REFUSED, out),
        ForwardOutcome::Failed => write_code(&query, OptRcode::SERVFAIL, out),
    }
    QueryVerdict::Reply
}

fn refuse(unanswerable: QueryError<'_>, out: &mut Vec<u8>) -> QueryVerdict {
    match unanswerable {
        QueryError::Ignored => return QueryVerdict::Drop,
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
            out.resize(HEADER, 0);
        }
    }
    QueryVerdict::Reply
}

fn write_code(query: &DnsQuery<'_>, code: OptRcode, out: &mut Vec<u8>) {
    compose(query, code, out, |answer| Ok(answer.additional()));
}

/// Says that the answer is too large for a datagram, so that the asker comes again over TCP.
pub(crate) fn write_truncated(query: &DnsQuery<'_>, code: OptRcode, out: &mut Vec<u8>) {
    compose(query, code, out, |mut answer| {
        answer.header_mut().set_tc(true);
        Ok(answer.additional())
    });
}

fn write_ours(view: &ZoneView, query: &DnsQuery<'_>, key: &[u8], node: &LocalName<'_>, out: &mut Vec<u8>) {
    let code = if matches!(node.kind, NameContent::Absent) { OptRcode::NXDOMAIN } else { OptRcode::NOERROR };
    let ours = LocalAnswer { view, query, key, node };
    compose(query, code, out, |mut answer| {
        answer.header_mut().set_aa(true);
        ours.push_answer(&mut answer)?;
        ours.push_rest(answer)
    });
}

/// Writes an answer: header, question, what `fill` adds, and an OPT record if the asker sent one. What does not fit is
/// left out as a whole and said to be truncated.
fn compose(
    query: &DnsQuery<'_>,
    code: OptRcode,
    out: &mut Vec<u8>,
    fill: impl FnOnce(AnswerBuilder<ReplyTarget>) -> Result<AdditionalBuilder<ReplyTarget>, PushError>,
) {
    let written = start(query, code, std::mem::take(out)).and_then(fill).and_then(|reply| finish(query, code, reply));
    match written {
        Ok(reply) => *out = reply,
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

/// An answer about a name of ours.
struct LocalAnswer<'a, 'q> {
    view: &'a ZoneView,
    query: &'a DnsQuery<'q>,
    key: &'a [u8],
    node: &'a LocalName<'a>,
}

impl LocalAnswer<'_, '_> {
    fn push_answer(&self, answer: &mut AnswerBuilder<ReplyTarget>) -> Result<(), PushError> {
        match self.node.kind {
            NameContent::Absent => return Ok(()),
            NameContent::Addresses(addresses) => self.push_addresses(self.query.name, addresses, answer)?,
            NameContent::Pointer(ip) if self.asks_for(Rtype::PTR) => {
                for name in self.view.names_of(ip).take(MAX_POINTERS) {
                    answer.push((self.query.name, Class::IN, self.ttl(), Ptr::new(to_name(name))))?;
                }
            }
            NameContent::Pointer(_) => {}
        }
        if self.key.len() == self.node.apex_len {
            if self.asks_for(Rtype::SOA) {
                answer.push((self.query.name, Class::IN, self.ttl(), self.soa()))?;
            }
            if self.asks_for(Rtype::NS) {
                answer.push((self.query.name, Class::IN, self.ttl(), Ns::new(self.server_name())))?;
            }
        }
        Ok(())
    }

    /// The addresses of the type that is asked for, beginning at another one for each query: askers take the first.
    fn push_addresses(
        &self,
        owner: impl ToName + Copy,
        addresses: &[IpAddr],
        answer: &mut impl RecordSectionBuilder<ReplyTarget>,
    ) -> Result<(), PushError> {
        let (v4, v6) = addresses.split_at(addresses.partition_point(IpAddr::is_ipv4));
        for (family, rtype) in [(v4, Rtype::A), (v6, Rtype::AAAA)] {
            if !self.asks_for(rtype) && !self.asks_for(Rtype::NS) {
                continue;
            }
            let first = usize::from(self.query.header.id()).checked_rem(family.len()).unwrap_or(0);
            for ip in family.iter().cycle().skip(first).take(family.len()) {
                match *ip {
                    IpAddr::V4(ip) => answer.push((owner, Class::IN, self.ttl(), A::new(ip)))?,
                    IpAddr::V6(ip) => answer.push((owner, Class::IN, self.ttl(), Aaaa::new(ip)))?,
                }
            }
        }
        Ok(())
    }

    /// The zone's SOA beside an answer of nothing (RFC 2308), the name server's addresses beside its name.
    fn push_rest(&self, answer: AnswerBuilder<ReplyTarget>) -> Result<AdditionalBuilder<ReplyTarget>, PushError> {
        let answered = answer.counts().ancount() > 0;
        let mut authority = answer.authority();
        if !answered {
            let apex = to_name(&self.key[..self.node.apex_len]);
            authority.push((apex, Class::IN, self.ttl().min(NEGATIVE_TTL), self.soa()))?;
        }
        let mut additional = authority.additional();
        if answered && self.query.qtype == Rtype::NS {
            let server = self.server_name();
            self.push_addresses(&server, &self.view.settings.server, &mut additional)?;
        }
        Ok(additional)
    }

    fn asks_for(&self, rtype: Rtype) -> bool {
        self.query.qtype == rtype || self.query.qtype == Rtype::ANY
    }

    fn ttl(&self) -> Ttl {
        self.view.settings.ttl
    }

    fn soa(&self) -> Soa<Name<Vec<u8>>> {
        let apex = NameKey::from_slice(&self.key[..self.node.apex_len]);
        Soa::new(
            self.server_name(),
            to_name(&apex.child("hostmaster")),
            Serial(self.view.serial),
            Ttl::HOUR,
            Ttl::from_mins(10),
            Ttl::from_days(7),
            self.ttl().min(NEGATIVE_TTL),
        )
    }

    /// A reverse zone has the name server of a zone of ours, or itself where there is none.
    fn server_name(&self) -> Name<Vec<u8>> {
        to_name(self.node.server_name.map_or(&self.key[..self.node.apex_len], |name| name))
    }
}

#[cfg(test)]
mod tests;
