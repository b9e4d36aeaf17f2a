//! Answers about names in the zones of this node, for which it is the authority.

use std::net::IpAddr;

use domain::{
    base::{
        Name, Rtype, Serial, ToName, Ttl,
        iana::{Class, OptRcode},
        message_builder::{AdditionalBuilder, AnswerBuilder, PushError, RecordSectionBuilder},
    },
    rdata::{A, Aaaa, Ns, Ptr, Soa},
};

use crate::{
    name::{NameKey, to_name},
    wire::{DnsQuery, ReplyTarget, compose},
    zones::{LocalName, NameContent, ZoneView},
};

/// Longest that clients may remember that a name does not exist: it may be registered at any moment.
const NEGATIVE_TTL: Ttl = Ttl::from_secs(5);
/// Most names given for one address.
const MAX_POINTERS: usize = 32;

/// Answers a query for the name at `key`. `out` is overwritten.
pub(crate) fn write_local(view: &ZoneView, query: &DnsQuery<'_>, key: &[u8], node: &LocalName<'_>, out: &mut Vec<u8>) {
    let code = if matches!(node.kind, NameContent::Absent) { OptRcode::NXDOMAIN } else { OptRcode::NOERROR };
    let ours = LocalAnswer { view, query, key, node };
    compose(query, code, out, |mut answer| {
        answer.header_mut().set_aa(true);
        ours.push_answer(&mut answer)?;
        ours.push_rest(answer)
    });
}

/// An answer about a name in a local zone.
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

    /// The addresses of the type that is asked for, each query beginning at another one: clients use the first.
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
            // Message ids are random, so they spread clients over the addresses without a counter that threads share.
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

    /// Adds the zone's SOA to an empty answer (RFC 2308), and the name server's addresses to its name.
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

    /// A reverse zone has the name server of a forward zone, or itself where there is none.
    fn server_name(&self) -> Name<Vec<u8>> {
        to_name(self.node.server_name.map_or(&self.key[..self.node.apex_len], |name| name))
    }
}
