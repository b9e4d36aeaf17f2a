//! Questions, as they are put to an upstream.

use std::sync::Arc;

use domain::base::{Message, MessageBuilder, Name, Rtype, ToName as _, iana::Class, message_builder::PushError};

use super::UDP_PAYLOAD;

/// A question to others: all that their answer depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct UpstreamQuestion {
    /// Lowercase, as on the wire.
    pub(crate) name: Arc<[u8]>,
    pub(crate) qtype: Rtype,
    /// Signatures are wanted.
    pub(crate) dnssec_ok: bool,
    /// Unverified answers are wanted.
    pub(crate) checking_disabled: bool,
}

/// Whether to speak EDNS to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EdnsOffer {
    /// Yes.
    Edns,
    /// No: it does not understand it.
    Plain,
}

impl UpstreamQuestion {
    /// The message that asks.
    pub(crate) fn to_message(&self, id: u16, offer: EdnsOffer) -> Result<Vec<u8>, PushError> {
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(id);
        builder.header_mut().set_rd(true);
        builder.header_mut().set_cd(self.checking_disabled);
        let mut builder = builder.question();
        builder.push((self.name(), self.qtype, Class::IN))?;
        let mut builder = builder.additional();
        if offer == EdnsOffer::Edns {
            builder.opt(|opt| {
                opt.set_udp_payload_size(UDP_PAYLOAD);
                opt.set_dnssec_ok(self.dnssec_ok);
                Ok(())
            })?;
        }
        Ok(builder.finish())
    }

    /// Whether the message has this question, and no other.
    pub(crate) fn is_in(&self, message: &Message<&[u8]>) -> bool {
        message.sole_question().is_ok_and(|asked| {
            asked.qname().name_eq(self.name()) && asked.qtype() == self.qtype && asked.qclass() == Class::IN
        })
    }

    fn name(&self) -> &Name<[u8]> {
        // Taken from a parsed query, so it is a name.
        Name::from_slice(&self.name).unwrap_or(Name::root_slice())
    }
}
