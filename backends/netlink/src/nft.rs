//! nftables: whole changes to the ruleset, applied at once or not at all.
//!
//! The types to say a change with are those of `nlink`, passed on here.

mod filters;

use nlink::{
    Connection, Nftables,
    netlink::{
        MessageBuilder, NLMSG_HDRLEN,
        message::{NLM_F_CREATE, NLM_F_EXCL},
        nftables::{self, RawExpr, RawMessage},
    },
};
use tokio::runtime::{Builder, Runtime};

pub use self::filters::{Barrier, Hook, Loss};
use crate::{Error, Result, steps, traffic};

pub use nlink::netlink::{
    nftables::{
        BaseChain, Chain, ChainName, CmpOp, CtState, CtStatus, Expr, Family, FibFlags, FilterHook, IcmpxCode,
        LookupExpr, MetaKey, NatHook, PacketField, PayloadBase, PayloadCsum, Policy, Priority, Register, Rule, Set,
        SetDataType, SetElement, SetElementData, SetKeyType, TcpFlags, Transaction, Verdict,
    },
    types::route::RouteType,
};

/// The key type of sets of interface names, as nft itself writes it (datatype 41, 16 bytes).
pub const INTERFACE_NAME: SetKeyType = SetKeyType::Other { type_id: 41, len: 16 };

/// How a change that must apply to a certain generation of the ruleset ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The ruleset is changed, and is of this generation now.
    Applied(u32),
    /// Somebody changed the ruleset since; nothing is applied.
    Overtaken,
}

/// Who may change a table (`linux/netfilter/nf_tables.h`, `nft_table_flags`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenure {
    /// Everybody; and a flush of the ruleset takes it away.
    Common,
    /// The socket that made or claimed it, as long as that is open. Nobody else's flush touches it.
    Held,
    /// Its socket is closed, and whoever claims it next holds it. Till then everybody may change it.
    Orphaned,
}

/// The flags of a table that is held, and that outlives its holder (Linux 6.9).
const HELD: u32 = nftables::NFT_TABLE_F_OWNER | nftables::NFT_TABLE_F_PERSIST;

/// The ruleset of the network namespace that this was opened in. Tables that it holds are its own until it is dropped.
///
/// Calls work on the thread of the caller, which must not be one that runs asynchronous tasks: going to another thread and
/// back would take longer than most changes.
pub struct Nft {
    connection: Connection<Nftables>,
    /// What nlink waits by. Taken on drop.
    reactor: Option<Runtime>,
}

impl std::fmt::Debug for Nft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nft").finish_non_exhaustive()
    }
}

impl Nft {
    /// For the calling thread's network namespace.
    pub fn here() -> Result<Self> {
        let reactor = Builder::new_current_thread().enable_all().build();
        let reactor = reactor.map_err(|e| Error::new("wait for nftables", e))?;
        let entered = reactor.enter();
        let connection = Connection::<Nftables>::new().map_err(|e| failed("open nftables", e))?;
        drop(entered);
        Ok(Self { connection, reactor: Some(reactor) })
    }

    fn wait<T>(&self, for_it: impl Future<Output = T>) -> T {
        self.reactor.as_ref().expect("it is there until the end").block_on(for_it)
    }

    /// An empty change.
    pub fn transaction(&self) -> Transaction {
        self.connection.transaction()
    }

    /// The number of the ruleset's state; every change by anybody makes it another.
    pub fn generation(&self) -> Result<u32> {
        traffic::said(1);
        self.wait(self.connection.generation()).map_err(|e| failed("read the generation of the ruleset", e))
    }

    /// Applies the change if the ruleset is of this generation still.
    pub fn commit(&self, change: Transaction, generation: u32, action: &str) -> Result<Outcome> {
        traffic::said(1);
        let change = change.expect_generation(generation);
        let outcome = self.wait(change.commit(&self.connection));
        steps::done(action);
        match outcome {
            // One change takes the ruleset to the next number, and 0 is left out.
            Ok(()) => Ok(Outcome::Applied(generation.checked_add(1).unwrap_or(1))),
            Err(error) if error.is_restart() => Ok(Outcome::Overtaken),
            Err(error) => Err(failed(action, error)),
        }
    }

    /// Who may change the table; `None` where there is none of this name.
    pub fn tenure(&self, family: Family, name: &str) -> Result<Option<Tenure>> {
        let tables = self.wait(self.connection.list_tables_in(family));
        let tables = tables.map_err(|e| failed("list tables", e))?;
        Ok(tables.iter().find(|table| table.name == name).map(|table| match table.flags & HELD {
            nftables::NFT_TABLE_F_PERSIST => Tenure::Orphaned,
            flags if flags & nftables::NFT_TABLE_F_OWNER != 0 => Tenure::Held,
            _ => Tenure::Common,
        }))
    }

    /// The names of a table's sets.
    pub fn sets(&self, family: Family, table: &str) -> Result<Vec<String>> {
        let sets = self.wait(self.connection.list_sets_in(table, family)).map_err(|e| failed("list sets", e))?;
        Ok(sets.into_iter().filter(|set| !set.name.starts_with("__")).map(|set| set.name).collect())
    }

    /// The elements of a set; none where there is no such set.
    pub fn elements(&self, family: Family, table: &str, set: &str) -> Result<Vec<SetElement>> {
        match self.wait(self.connection.list_set_elements(table, set, family)) {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            found => {
                let found = found.map_err(|e| failed("list a set", e))?;
                traffic::heard(found.len());
                Ok(found)
            }
        }
    }
}

impl Drop for Nft {
    /// Nothing waits any more; a runtime that is dropped would wait for that, which asynchronous tasks must not.
    fn drop(&mut self) {
        self.reactor.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// Adds a table to the change that this socket will hold, and that outlives it. Kernels before 6.9 refuse the change.
pub fn add_held_table(change: Transaction, family: Family, table: &str) -> Transaction {
    change.add_table_with_flags(table, family, HELD)
}

/// Adds to the change that this socket is to hold an orphaned table.
pub fn claim_table(change: Transaction, family: Family, table: &str) -> Transaction {
    change.update_table(table, family, HELD)
}

/// Adds a set of interface names to the change. `id` tells it from other sets of the same change; from 1000 on they are
/// free.
///
/// nft stores the order of the key's bytes with a set and shows names as empty without it, which makes a saved and
/// restored ruleset another one. nlink has no word for that, so the message is ours (`linux/netfilter/nf_tables.h`).
pub fn add_interface_set(change: Transaction, family: Family, table: &str, name: &str, id: u32) -> Transaction {
    /// `NFTNL_UDATA_SET_KEYBYTEORDER`, its length, and nft's number for the host's order.
    const HOST_ORDER: [u8; 6] = {
        let [a, b, c, d] = 1u32.to_ne_bytes();
        [0, 4, a, b, c, d]
    };
    let mut attributes = MessageBuilder::new(0, 0);
    attributes.append_attr_str(nftables::NFTA_SET_TABLE, table);
    attributes.append_attr_str(nftables::NFTA_SET_NAME, name);
    attributes.append_attr_u32_be(nftables::NFTA_SET_KEY_TYPE, INTERFACE_NAME.type_id());
    attributes.append_attr_u32_be(nftables::NFTA_SET_KEY_LEN, INTERFACE_NAME.len());
    attributes.append_attr_u32_be(nftables::NFTA_SET_ID, id);
    attributes.append_attr(nftables::NFTA_SET_USERDATA, &HOST_ORDER);
    let attributes = attributes.as_bytes()[NLMSG_HDRLEN..].to_vec();
    let message = RawMessage::new(nftables::NFT_MSG_NEWSET, family);
    change.raw(message.flags(NLM_F_CREATE | NLM_F_EXCL).attrs(attributes))
}

/// Destination NAT to the address and port that these registers hold. nlink's own holds them in fixed registers, which
/// are not those that a lookup in a map fills (`linux/netfilter/nf_tables.h`, `nft_nat_attributes`).
pub fn destination_nat(family: Family, address: Register, port: Register) -> Expr {
    /// `NFT_NAT_DNAT`, and `NF_NAT_RANGE_MAP_IPS` with `NF_NAT_RANGE_PROTO_SPECIFIED`.
    const DNAT: u32 = 1;
    const ADDRESS_AND_PORT: u32 = 3;
    let mut attributes = MessageBuilder::new(0, 0);
    let (address, port) = (address as u32, port as u32);
    for (kind, value) in (1..).zip([DNAT, family as u32, address, address, port, port, ADDRESS_AND_PORT]) {
        attributes.append_attr_u32_be(kind, value);
    }
    Expr::Raw(RawExpr::new("nat", attributes.as_bytes()[NLMSG_HDRLEN..].to_vec()))
}

/// An interface name as an element of a set.
pub fn interface(name: &str) -> SetElement {
    let mut key = [0; 16];
    let length = name.len().min(15);
    key[..length].copy_from_slice(&name.as_bytes()[..length]);
    SetElement::new(key.to_vec())
}

/// The interface name that an element of a set holds.
pub fn interface_of(element: &SetElement) -> String {
    let key = element.key();
    let end = key.iter().position(|&byte| byte == 0).unwrap_or(key.len());
    String::from_utf8_lossy(&key[..end]).into_owned()
}

fn failed(action: &str, error: nlink::netlink::Error) -> Error {
    match error.errno() {
        Some(errno) => Error::refused(action, errno.abs(), Some(error.to_string())),
        None => Error::new(action, std::io::Error::other(error)),
    }
}
