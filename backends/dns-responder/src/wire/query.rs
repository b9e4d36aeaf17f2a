//! Queries as they come in: bytes become a question, or the error to answer with.

use domain::{
    base::{
        Header, Message, ParsedName, Rtype, Ttl,
        header::HeaderCounts,
        iana::{Class, Opcode, OptRcode, Rcode},
        opt::Opt,
    },
    dep::octseq::Parser,
};

use super::{HEADER_LEN, UDP_PAYLOAD, question::UpstreamQuestion};

/// Largest answer over UDP without EDNS (RFC 1035, section 2.3.4).
const PLAIN_PAYLOAD: u16 = 512;

/// How a query came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryTransport {
    /// As a datagram: answers are cut to what the asker takes.
    Udp,
    /// On a connection.
    Tcp,
}

/// A query that can be answered.
#[derive(Debug)]
pub(crate) struct DnsQuery<'a> {
    pub(crate) header: Header,
    /// The question as the asker wrote it, letter case included.
    pub(crate) question: &'a [u8],
    pub(crate) name: ParsedName<&'a [u8]>,
    pub(crate) qtype: Rtype,
    pub(crate) class: Class,
    pub(crate) edns: Option<EdnsOptions>,
    /// Largest answer in bytes.
    pub(crate) limit: usize,
}

/// What the asker said by EDNS (RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EdnsOptions {
    /// Whether signatures are wanted.
    pub(crate) dnssec_ok: bool,
    payload: u16,
    version: u8,
}

/// Why a query is not answered as asked.
#[derive(Debug)]
pub(crate) enum QueryError<'a> {
    /// It deserves no answer at all: no query, or too short to be one.
    Ignored,
    /// The header is all that could be made sense of.
    Header(Header, Rcode),
    /// The question is understood and refused.
    Refused(DnsQuery<'a>, OptRcode),
}

impl<'a> DnsQuery<'a> {
    /// Reads a message that came in.
    pub(crate) fn parse(bytes: &'a [u8], transport: QueryTransport) -> Result<Self, QueryError<'a>> {
        let message = Message::from_octets(bytes).map_err(|_| QueryError::Ignored)?;
        let header = message.header();
        // An answer to an answer could go back and forth between two servers for ever.
        if header.qr() {
            return Err(QueryError::Ignored);
        }
        if header.opcode() != Opcode::QUERY {
            return Err(QueryError::Header(header, Rcode::NOTIMP));
        }
        let malformed = QueryError::Header(header, Rcode::FORMERR);
        let Some((name, qtype, class, question)) = read_question(bytes, message.header_counts()) else {
            return Err(malformed);
        };
        let Some(edns) = read_edns(&message) else {
            return Err(malformed);
        };
        let limit = limit(transport, edns);
        let query = Self { header, question, name, qtype, class, edns, limit };
        match query.refusal() {
            Some(code) => Err(QueryError::Refused(query, code)),
            None => Ok(query),
        }
    }

    /// The question and all else that an answer depends on.
    pub(crate) fn to_forward(&self) -> UpstreamQuestion {
        // Type and class are the last four bytes of a question. Lowercase, so that one cache entry serves all spellings.
        let name = self.question[..self.question.len() - 4].to_ascii_lowercase();
        let dnssec_ok = self.edns.is_some_and(|edns| edns.dnssec_ok);
        UpstreamQuestion { name: name.into(), qtype: self.qtype, dnssec_ok, checking_disabled: self.header.cd() }
    }

    fn refusal(&self) -> Option<OptRcode> {
        if self.edns.is_some_and(|edns| edns.version > 0) {
            return Some(OptRcode::BADVERS);
        }
        match self.qtype {
            Rtype::OPT => Some(OptRcode::FORMERR),
            _ if self.qtype.to_int() == 0 => Some(OptRcode::FORMERR),
            Rtype::AXFR | Rtype::IXFR => Some(OptRcode::REFUSED),
            Rtype::ANY => None,
            // Reserved for questions with a meaning of their own (RFC 6895, section 3.1), which we do not know.
            meta if (128..=255).contains(&meta.to_int()) => Some(OptRcode::NOTIMP),
            _ => (self.class != Class::IN).then_some(OptRcode::REFUSED),
        }
    }
}

type Asked<'a> = (ParsedName<&'a [u8]>, Rtype, Class, &'a [u8]);

/// The one question, with a name that is written out.
fn read_question(bytes: &[u8], counts: HeaderCounts) -> Option<Asked<'_>> {
    if counts.qdcount() != 1 {
        return None;
    }
    let mut parser = Parser::from_ref(bytes);
    parser.advance(HEADER_LEN).ok()?;
    let name = ParsedName::parse(&mut parser).ok()?;
    let qtype = Rtype::parse(&mut parser).ok()?;
    let class = Class::parse(&mut parser).ok()?;
    // A name in a question has nothing before it to point at, and what follows relies on its bytes as they are.
    (!name.is_compressed()).then_some((name, qtype, class, &bytes[HEADER_LEN..parser.pos()]))
}

/// `None` when the rest of the message is malformed; at most one OPT, owned by the root.
fn read_edns(message: &Message<&[u8]>) -> Option<Option<EdnsOptions>> {
    let mut edns = None;
    for record in message.additional().ok()? {
        let record = record.ok()?;
        if record.rtype() != Rtype::OPT {
            continue;
        }
        if edns.is_some() || !record.owner().is_root() {
            return None;
        }
        record.to_record::<Opt<_>>().ok()??;
        edns = Some(EdnsOptions::of(record.class(), record.ttl()));
    }
    Some(edns)
}

impl EdnsOptions {
    /// Class and TTL of an OPT record carry the fields (RFC 6891, section 6.1.2).
    fn of(class: Class, ttl: Ttl) -> Self {
        let [_, version, flags, _] = ttl.as_secs().to_be_bytes();
        Self { dnssec_ok: flags & 0x80 != 0, payload: class.to_int(), version }
    }
}

fn limit(transport: QueryTransport, edns: Option<EdnsOptions>) -> usize {
    match (transport, edns) {
        (QueryTransport::Tcp, _) => usize::from(u16::MAX),
        (QueryTransport::Udp, None) => usize::from(PLAIN_PAYLOAD),
        (QueryTransport::Udp, Some(edns)) => usize::from(edns.payload.clamp(PLAIN_PAYLOAD, UDP_PAYLOAD)),
    }
}
