//! Answers of upstreams: what is believed of them, how long it may be kept, and how a reply is made from one.

use std::time::Duration;

use domain::{
    base::{
        Message, MessageBuilder, Name, ParsedName, ParsedRecord, Record, Rtype, ToName as _, TreeCompressor, Ttl,
        header::{Header, HeaderCounts},
        iana::{Class, OptRcode, Rcode},
        message::CopyRecordsError,
        opt::Opt,
        wire::ParseError,
    },
    dep::octseq::Parser,
    rdata::{AllRecordData, Soa},
};

use super::{HEADER_LEN, OPT_LEN, UDP_PAYLOAD, query::DnsQuery, question::UpstreamQuestion, reply::write_truncated};

/// Longest that an answer is remembered.
const MAX_LIFETIME: u32 = 86_400;
/// Longest that the absence of a name is remembered (RFC 2308, section 5).
const MAX_NEGATIVE_LIFETIME: u32 = 3_600;
/// The flag of an OPT record that asks for signatures, as a part of its TTL (RFC 3225).
const DNSSEC_OK: u32 = 0x8000;

/// What others answered: a message without OPT record, and the places in it that age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamAnswer {
    message: Vec<u8>,
    code: Rcode,
    ttls: Vec<u16>,
    lifetime: u32,
}

/// Why a message is no answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    /// Not an answer to this question at all: late, or forged.
    #[error("the message answers another question")]
    Unrelated,
    /// It does not keep the format.
    #[error("the answer is malformed")]
    Malformed,
    /// There is more over TCP.
    #[error("the answer is truncated")]
    Truncated,
    /// The server could not or would not.
    #[error("the server answered {0}")]
    Code(Rcode),
}

impl UpstreamAnswer {
    /// Reads a message that came from a server that was asked.
    pub(crate) fn read(bytes: &[u8], id: u16, question: &UpstreamQuestion) -> Result<Self, AnswerError> {
        let message = Message::from_octets(bytes).map_err(|_| AnswerError::Unrelated)?;
        let header = message.header();
        if !header.qr() || header.id() != id {
            return Err(AnswerError::Unrelated);
        }
        // A server that does not understand a question need not repeat it.
        if header.rcode() == Rcode::FORMERR && message.header_counts().qdcount() == 0 {
            return Err(AnswerError::Code(Rcode::FORMERR));
        }
        if !question.is_in(&message) {
            return Err(AnswerError::Unrelated);
        }
        if header.tc() {
            return Err(AnswerError::Truncated);
        }
        match header.rcode() {
            Rcode::NOERROR | Rcode::NXDOMAIN => rewrite(&message).ok_or(AnswerError::Malformed),
            code => Err(AnswerError::Code(code)),
        }
    }

    /// How long it may be remembered.
    pub(crate) fn lifetime(&self) -> Duration {
        Duration::from_secs(self.lifetime.into())
    }

    /// Memory it takes, about.
    pub(crate) fn weight(&self) -> usize {
        self.message.len() + 2 * self.ttls.len() + size_of::<Self>()
    }

    /// Answers a query with it, `age` seconds later.
    pub(crate) fn write(&self, query: &DnsQuery<'_>, age: u32, out: &mut Vec<u8>) {
        let len = self.message.len() + query.edns.map_or(0, |_| OPT_LEN);
        let question = HEADER_LEN..HEADER_LEN + query.question.len();
        // The question is overwritten below with the client's spelling, which has to be as long as the one remembered.
        if len > query.limit || self.message.len() < question.end {
            return write_truncated(query, OptRcode::from_rcode(self.code), out);
        }
        out.clear();
        out.extend_from_slice(&self.message);
        out[question].copy_from_slice(query.question);
        for at in self.ttls.iter().map(|at| usize::from(*at)) {
            if let Some(ttl) = out.get_mut(at..at + 4).and_then(|bytes| <&mut [u8; 4]>::try_from(bytes).ok()) {
                *ttl = u32::from_be_bytes(*ttl).saturating_sub(age).to_be_bytes();
            }
        }
        if let Some(edns) = query.edns {
            let flags = if edns.dnssec_ok { DNSSEC_OK } else { 0 };
            let class = Class::from_int(UDP_PAYLOAD);
            let Ok(()) =
                Record::new(Name::root_slice(), class, Ttl::from_secs(flags), Opt::<Vec<u8>>::empty()).compose(out);
            let counts = HeaderCounts::for_message_slice_mut(out);
            counts.set_arcount(counts.arcount() + 1);
        }
        self.set_header(query, Header::for_message_slice_mut(out));
    }

    fn set_header(&self, query: &DnsQuery<'_>, header: &mut Header) {
        let wants_verdict = query.header.ad() || query.edns.is_some_and(|edns| edns.dnssec_ok);
        header.set_id(query.header.id());
        header.set_rd(query.header.rd());
        header.set_cd(query.header.cd());
        // Only for clients that asked for it (RFC 6840, section 5.7).
        header.set_ad(header.ad() && wants_verdict);
    }
}

/// The message with names compressed our way and without what belongs to one hop.
fn rewrite(message: &Message<&[u8]>) -> Option<UpstreamAnswer> {
    let Ok(mut builder) = MessageBuilder::from_target(TreeCompressor::new(Vec::new()));
    let header = builder.header_mut();
    header.set_qr(true);
    header.set_ra(true);
    header.set_ad(message.header().ad());
    header.set_rcode(message.header().rcode());
    // Room for the OPT record that a client with EDNS gets.
    builder.set_push_limit(usize::from(u16::MAX) - OPT_LEN);
    let mut builder = builder.question();
    let asked = message.sole_question().ok()?;
    let name = asked.qname().to_canonical_name::<Vec<u8>>();
    builder.push((&name, asked.qtype(), asked.qclass())).ok()?;
    // `copy_records` leaves out what it cannot read and goes on; a record that is lost here would be a wrong answer.
    let mut malformed = false;
    let copied: Result<_, CopyRecordsError> = message.copy_records(builder.answer(), |record| {
        let kept = keep(&record);
        malformed |= kept.is_err();
        kept.unwrap_or(None)
    });
    let bytes = copied.ok().filter(|_| !malformed)?.finish().into_target();
    let (ttls, shortest) = ttls(&bytes).ok()?;
    let lifetime = lifetime(message, shortest)?;
    Some(UpstreamAnswer { message: bytes, code: message.header().rcode(), ttls, lifetime })
}

type KeptRecord<'a> = Record<ParsedName<&'a [u8]>, AllRecordData<&'a [u8], ParsedName<&'a [u8]>>>;

fn keep<'a>(record: &ParsedRecord<'a, &'a [u8]>) -> Result<Option<KeptRecord<'a>>, ParseError> {
    match record.rtype() {
        // These belong to the hop between us and the upstream (RFC 6891, section 6.1.1; RFC 8945).
        Rtype::OPT | Rtype::TSIG | Rtype::SIG => Ok(None),
        _ => record.to_any_record().map(Some),
    }
}

/// Where the TTLs of the records are, and the shortest of them.
fn ttls(message: &[u8]) -> Result<(Vec<u16>, u32), ParseError> {
    let counts = *HeaderCounts::for_message_slice(message);
    let mut parser = Parser::from_ref(message);
    parser.advance(HEADER_LEN)?;
    ParsedName::skip(&mut parser)?;
    parser.advance(4)?;
    let mut places = Vec::new();
    let mut shortest = MAX_LIFETIME;
    let records = [counts.ancount(), counts.nscount(), counts.arcount()].map(usize::from).iter().sum();
    for _ in 0..records {
        ParsedName::skip(&mut parser)?;
        parser.advance(4)?;
        // The message is limited to 64 KiB.
        places.push(parser.pos() as u16);
        shortest = shortest.min(parser.parse_u32_be()?);
        let len = parser.parse_u16_be()?;
        parser.advance(len.into())?;
    }
    Ok((places, shortest))
}

/// Absence is remembered as long as the zone's SOA says, and not at all without one (RFC 2308, section 5).
fn lifetime(message: &Message<&[u8]>, shortest: u32) -> Option<u32> {
    let negative = message.authority().ok()?.limit_to_in::<Soa<ParsedName<_>>>().next();
    match negative {
        Some(soa) => Some(shortest.min(soa.ok()?.data().minimum().as_secs()).min(MAX_NEGATIVE_LIFETIME)),
        None if message.header_counts().ancount() == 0 => Some(0),
        None => Some(shortest),
    }
}
