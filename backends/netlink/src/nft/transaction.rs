//! A change of the ruleset that is made as a whole or not at all (`linux/netfilter/nfnetlink.h`): messages between a begin
//! and an end, in one datagram.

use rustix::io::Errno;

use super::{
    chain::{self, Chain},
    element::{self, ElementChange, SetElement},
    numbers::Family,
    rule::Rule,
    set::{self, INTERFACE_NAME, Set},
};
use crate::{
    Error, Result,
    channel::{NetlinkChannel, verdict},
    message::{
        MessageBuilder, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, ReceivedMessage, messages,
    },
    traffic,
};

/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END` and `NFNL_BATCH_GENID`.
const BEGIN: u16 = 16;
const END: u16 = 17;
const GENERATION: u16 = 1;
/// `NFNL_SUBSYS_NFTABLES`, the upper byte of a message type.
const NFTABLES: u8 = 10;
/// `NFTA_TABLE_NAME` and `NFTA_TABLE_FLAGS`.
pub(super) const TABLE_NAME: u16 = 1;
pub(super) const TABLE_FLAGS: u16 = 2;
/// `ERESTART` of `linux/errno.h`, which is no error of user space: the generation is another one.
const RESTART: Errno = Errno::RESTART;

/// What a message is about (`enum nf_tables_msg_types`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum MessageKind {
    NewTable = 0,
    GetTable = 1,
    DeleteTable = 2,
    NewChain = 3,
    GetChain = 4,
    DeleteChain = 5,
    NewRule = 6,
    GetRule = 7,
    NewSet = 9,
    GetSet = 10,
    DeleteSet = 11,
    NewElement = 12,
    GetElement = 13,
    DeleteElement = 14,
    GetGeneration = 16,
}

impl MessageKind {
    /// The type of such a message.
    pub(super) fn number(self) -> u16 {
        u16::from_be_bytes([NFTABLES, self as u8])
    }
}

/// `struct nfgenmsg` of a message about nftables: family, version, and what only begin and end use.
pub(super) fn header(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// A change of the ruleset that is being put together.
#[derive(Debug, Clone, Default)]
#[must_use = "a change does nothing until it is committed"]
pub struct Transaction {
    messages: Vec<MessageBuilder>,
    sets: u32,
    /// What the kernel would cut off.
    overlong: bool,
}

impl Transaction {
    /// Adds a table.
    pub fn add_table(self, name: &str, family: Family) -> Self {
        self.with(MessageKind::NewTable, NLM_F_CREATE | NLM_F_EXCL, family, |message| {
            message.attribute_text(TABLE_NAME, name);
        })
    }

    /// Adds a table with these flags.
    pub(super) fn add_table_with_flags(self, name: &str, family: Family, flags: u32) -> Self {
        self.with(MessageKind::NewTable, NLM_F_CREATE | NLM_F_EXCL, family, |message| {
            message.attribute_text(TABLE_NAME, name);
            message.attribute_be32(TABLE_FLAGS, flags);
        })
    }

    /// Gives a table these flags.
    pub(super) fn update_table(self, name: &str, family: Family, flags: u32) -> Self {
        self.with(MessageKind::NewTable, 0, family, |message| {
            message.attribute_text(TABLE_NAME, name);
            message.attribute_be32(TABLE_FLAGS, flags);
        })
    }

    /// Removes a table with all that is in it.
    pub fn del_table(self, name: &str, family: Family) -> Self {
        self.with(MessageKind::DeleteTable, 0, family, |message| message.attribute_text(TABLE_NAME, name))
    }

    /// Adds a chain.
    pub fn add_chain(self, chain: Chain) -> Self {
        self.with(MessageKind::NewChain, NLM_F_CREATE | NLM_F_EXCL, chain.family, |message| chain.write(message))
    }

    /// Removes an empty chain that no rule and no element leads to.
    pub fn del_chain(self, table: &str, name: &str, family: Family) -> Self {
        self.with(MessageKind::DeleteChain, 0, family, |message| {
            message.attribute_text(chain::TABLE, table);
            message.attribute_text(chain::NAME, name);
        })
    }

    /// Adds a rule at the end of its chain.
    pub fn add_rule(self, rule: Rule) -> Self {
        self.with(MessageKind::NewRule, NLM_F_CREATE | NLM_F_APPEND, rule.family, |message| rule.write(message))
    }

    /// Adds a set.
    pub fn add_set(mut self, set: Set) -> Self {
        self.sets += 1;
        let id = self.sets;
        self.with(MessageKind::NewSet, NLM_F_CREATE | NLM_F_EXCL, set.family, |message| set.write(message, id))
    }

    /// Removes a set that no rule looks into.
    pub fn del_set(self, table: &str, name: &str, family: Family) -> Self {
        self.with(MessageKind::DeleteSet, 0, family, |message| {
            message.attribute_text(set::TABLE, table);
            message.attribute_text(set::NAME, name);
        })
    }

    /// Adds elements to a set. They are one attribute, whose length has 16 bits: some hundreds fit.
    pub fn add_set_elements(mut self, set: &Set, elements: &[SetElement]) -> Self {
        self.overlong |= elements.iter().any(SetElement::is_overlong);
        self.with(MessageKind::NewElement, NLM_F_CREATE, set.family, |message| {
            element::write(message, set, elements, ElementChange::Add);
        })
    }

    /// Removes elements from a set; one that is not there is an error.
    pub fn del_set_elements(self, set: &Set, elements: &[SetElement]) -> Self {
        self.with(MessageKind::DeleteElement, 0, set.family, |message| {
            element::write(message, set, elements, ElementChange::Delete);
        })
    }

    fn with(mut self, kind: MessageKind, flags: u16, family: Family, fill: impl FnOnce(&mut MessageBuilder)) -> Self {
        let mut message = MessageBuilder::new(kind.number(), NLM_F_REQUEST | flags);
        message.append(&header(family as u8));
        fill(&mut message);
        self.overlong |= message.is_overlong();
        self.messages.push(message);
        self
    }

    /// Makes the change if the ruleset is of this generation still. Whether it was made.
    pub(super) fn commit(self, channel: &mut NetlinkChannel, generation: u32, action: &str) -> Result<bool> {
        if self.overlong {
            return Err(Error::new(action, Errno::MSGSIZE));
        }
        let Some(last) = self.messages.len().checked_sub(1) else { return Ok(true) };
        let mut datagram = Vec::with_capacity(4096);
        let begin = channel.next_sequence();
        let mut opening = boundary(BEGIN);
        opening.attribute_be32(GENERATION, generation);
        opening.write_to(&mut datagram, 0, begin);
        for (index, message) in self.messages.iter().enumerate() {
            // All that goes wrong is told before the last message's answer, which is told in any case.
            message.write_to(&mut datagram, if index == last { NLM_F_ACK } else { 0 }, channel.next_sequence());
        }
        boundary(END).write_to(&mut datagram, 0, channel.next_sequence());
        traffic::said(1);
        channel.send_datagram(action, &datagram)?;
        let outcome = await_outcome(channel, begin, last as u32 + 1, action);
        channel.settle();
        match outcome {
            Err(error) if error.errno() == Some(RESTART) => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }
}

/// Adds a set of interface names to the change. `id` tells it from other sets of the same change; from 1000 on they are
/// free.
pub fn add_interface_set(change: Transaction, family: Family, table: &str, name: &str, id: u32) -> Transaction {
    let set = Set::new(table, name).key_type(INTERFACE_NAME);
    change.with(MessageKind::NewSet, NLM_F_CREATE | NLM_F_EXCL, family, |message| {
        set.write_with_byte_order(message, id);
    })
}

/// The begin or the end of a change: for all families, and with the subsystem in network order.
fn boundary(kind: u16) -> MessageBuilder {
    let mut message = MessageBuilder::new(kind, NLM_F_REQUEST);
    message.append(&[0, 0, 0, NFTABLES]);
    message
}

/// Reads answers until that of the last of `count` messages after `begin`. The first failure is the outcome.
///
/// A refusal of the whole change is told as one of the begin, and lack of memory as one of the first message; then
/// nothing follows. A failure at the very end is told as one of the first message, before the last message's answer.
fn await_outcome(channel: &mut NetlinkChannel, begin: u32, count: u32, action: &str) -> Result<()> {
    let mut first_failure = Ok(());
    loop {
        for message in messages(channel.receive(action)?) {
            let at = message.sequence.wrapping_sub(begin);
            if at > count || !message.is_verdict() {
                continue;
            }
            if let (Ok(()), Err(error)) = (&first_failure, verdict(action, &message)) {
                first_failure = Err(error);
            }
            if at == 0 || at == count || is_out_of_memory(&message) {
                return first_failure;
            }
        }
    }
}

fn is_out_of_memory(message: &ReceivedMessage<'_>) -> bool {
    message.errno() == Errno::NOMEM.raw_os_error()
}
