//! nftables: whole changes to the ruleset, applied at once or not at all (`linux/netfilter/nf_tables.h`).
//!
//! Types and methods have the words of nft, so that its manual explains them. Only what this program says to the kernel is
//! here.

mod chain;
mod element;
mod expression;
mod filters;
mod numbers;
mod rule;
mod set;
mod transaction;

use std::sync::Mutex;

use netlink_sys::protocols::NETLINK_NETFILTER;
use overlayd_core::sync::lock;

use self::transaction::{MessageKind, TABLE_FLAGS, TABLE_NAME, header};
pub use self::{
    chain::{BaseChain, Chain, ChainName, FilterHook, NatHook, Policy, Priority},
    element::{SetElement, SetElementData, interface, interface_of},
    expression::{Expr, LookupExpr, NumbersExpr, Verdict},
    filters::{Barrier, Hook, Loss},
    numbers::{
        CmpOp, CtState, CtStatus, Family, FibFlags, IcmpxCode, MetaKey, PayloadBase, PayloadCsum, Register, RouteType,
        TcpFlags,
    },
    rule::{PacketField, Rule, destination_nat},
    set::{INTERFACE_NAME, Set, SetDataType, SetKeyType},
    transaction::{Transaction, add_interface_set},
};
use crate::{
    OrAbsent, Request, Result,
    channel::NetlinkChannel,
    message::{MessageBuilder, attribute_of, be32_of, text_of},
    steps,
};

/// How a change that must apply to a certain generation of the ruleset ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The ruleset is changed, and is of this generation now.
    Applied(u32),
    /// Another program changed the ruleset since; nothing is applied.
    Overtaken,
}

/// Who may change a table (`enum nft_table_flags`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenure {
    /// Every program; and a flush of the ruleset takes it away.
    Common,
    /// The socket that made or claimed it, as long as that is open. No other program's flush touches it.
    Held,
    /// Its socket is closed, and the next socket that claims it holds it. Till then every program may change it.
    Orphaned,
}

/// `NFT_TABLE_F_OWNER` and `NFT_TABLE_F_PERSIST`.
const OWNER: u32 = 2;
const PERSIST: u32 = 4;
/// The flags of a table that is held, and that outlives its holder (Linux 6.9).
const HELD: u32 = OWNER | PERSIST;
/// Bytes of `struct nfgenmsg`.
const HEADER: usize = 4;
/// `NFTA_GEN_ID`.
const GENERATION: u16 = 1;

/// The ruleset of the network namespace that this was opened in. Tables that it holds are its own until it is dropped.
///
/// Calls block, and one waits for the other.
#[derive(Debug)]
pub struct Nft {
    channel: Mutex<NetlinkChannel>,
}

impl Nft {
    /// For the calling thread's network namespace.
    pub fn here() -> Result<Self> {
        Ok(Self { channel: Mutex::new(NetlinkChannel::open(NETLINK_NETFILTER)?) })
    }

    /// An empty change.
    pub fn transaction(&self) -> Transaction {
        Transaction::default()
    }

    /// The number of the ruleset's state; every change by any program makes it another.
    pub fn generation(&self) -> Result<u32> {
        let request = request("read the generation of the ruleset", MessageKind::GetGeneration, 0, |_| {});
        lock(&self.channel).get(request, |payload| attribute_of(payload.get(HEADER..)?, GENERATION).and_then(be32_of))
    }

    /// Applies the change if the ruleset is of this generation still.
    pub fn commit(&self, change: Transaction, generation: u32, action: &str) -> Result<Outcome> {
        let outcome = change.commit(&mut lock(&self.channel), generation, action);
        steps::done(action);
        // One change takes the ruleset to the next number, and 0 is left out.
        let next = generation.checked_add(1).unwrap_or(1);
        Ok(if outcome? { Outcome::Applied(next) } else { Outcome::Overtaken })
    }

    /// Who may change the table; `None` where there is none of this name.
    pub fn tenure(&self, family: Family, name: &str) -> Result<Option<Tenure>> {
        let request = request("look up a table", MessageKind::GetTable, family as u8, |message| {
            message.attribute_text(TABLE_NAME, name);
        });
        let flags = lock(&self.channel).get(request, |payload| {
            Some(attribute_of(payload.get(HEADER..)?, TABLE_FLAGS).and_then(be32_of).unwrap_or_default())
        });
        Ok(flags.or_absent()?.map(|flags| match flags & HELD {
            PERSIST => Tenure::Orphaned,
            flags if flags & OWNER != 0 => Tenure::Held,
            _ => Tenure::Common,
        }))
    }

    /// The names of a table's sets.
    pub fn sets(&self, family: Family, table: &str) -> Result<Vec<String>> {
        let names = self.dump("list sets", MessageKind::GetSet, family as u8, &[(set::TABLE, table)], |payload| {
            attribute_of(payload.get(HEADER..)?, set::NAME).map(text_of)
        })?;
        Ok(names.into_iter().filter(|name| !name.starts_with("__")).collect())
    }

    /// The elements of a set; none where there is no such set.
    pub fn elements(&self, family: Family, table: &str, set: &str) -> Result<Vec<SetElement>> {
        Ok(self.find_elements(family, table, set).or_absent()?.unwrap_or_default())
    }

    fn find_elements(&self, family: Family, table: &str, set: &str) -> Result<Vec<SetElement>> {
        let request = request("look up a set", MessageKind::GetSet, family as u8, |message| {
            message.attribute_text(set::TABLE, table);
            message.attribute_text(set::NAME, set);
        });
        let flags = lock(&self.channel).get(request, |payload| {
            Some(attribute_of(payload.get(HEADER..)?, set::FLAGS).and_then(be32_of).unwrap_or_default())
        })?;
        let of = [(element::TABLE, table), (element::SET, set)];
        let listed = self.dump("list a set", MessageKind::GetElement, family as u8, &of, |payload| {
            payload.get(HEADER..).map(element::read)
        })?;
        let listed = listed.into_iter().flatten();
        Ok(match flags & (set::INTERVAL | set::CONCAT) {
            set::INTERVAL => element::ranges(listed.collect()),
            _ => listed.map(|(element, _)| element).collect(),
        })
    }

    /// Everything of this kind; `of` are attributes that say of what.
    fn dump<T>(
        &self,
        action: &str,
        kind: MessageKind,
        family: u8,
        of: &[(u16, &str)],
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        let request = || {
            request(action, kind, family, |message| {
                of.iter().for_each(|(attribute, name)| message.attribute_text(*attribute, name));
            })
        };
        lock(&self.channel).dump(request, parse)
    }
}

fn request(action: &str, kind: MessageKind, family: u8, fill: impl FnOnce(&mut MessageBuilder)) -> Request {
    let mut request = Request::new(action.to_owned(), kind.number(), 0);
    request.message().append(&header(family));
    fill(request.message());
    request
}

/// Adds a table to the change that this socket will hold, and that outlives it. Kernels before 6.9 refuse the change.
pub fn add_held_table(change: Transaction, family: Family, table: &str) -> Transaction {
    change.add_table_with_flags(table, family, HELD)
}

/// Adds to the change that this socket is to hold an orphaned table.
pub fn claim_table(change: Transaction, family: Family, table: &str) -> Transaction {
    change.update_table(table, family, HELD)
}
