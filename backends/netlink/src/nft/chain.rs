//! Chains: lists of rules. A base chain is where the kernel takes packets to; other chains are reached from rules.

use super::numbers::Family;
use crate::{Error, Result, message::MessageBuilder};

/// `NFTA_CHAIN_TABLE` and the attributes after it.
pub(super) const TABLE: u16 = 1;
pub(super) const NAME: u16 = 3;
pub(super) const HOOK: u16 = 4;
pub(super) const POLICY: u16 = 5;
pub(super) const TYPE: u16 = 7;
/// `NFTA_HOOK_HOOKNUM` and `NFTA_HOOK_PRIORITY`.
pub(super) const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
/// `NFT_NAME_MAXLEN` without the zero byte at the end.
const LONGEST_NAME: usize = 255;

/// Name of a chain: 1 to 255 bytes, none of them zero.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChainName(String);

impl ChainName {
    /// Checks the name.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        if name.is_empty() || name.len() > LONGEST_NAME || name.contains('\0') {
            let reason = format!("a chain's name has 1 to {LONGEST_NAME} bytes, none of them zero");
            return Err(Error::new(format!("name a chain {name:?}"), std::io::Error::other(reason)));
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where on a packet's way a chain filters it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum FilterHook {
    /// Before it is known where it goes.
    Prerouting = 0,
    /// For the host itself.
    Input = 1,
    /// Passed on by the host.
    Forward = 2,
    /// From the host itself.
    Output = 3,
}

/// Where on a packet's way a chain translates addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum NatHook {
    /// Before it is known where it goes.
    Prerouting = 0,
    /// From the host itself.
    Output = 3,
    /// When it is about to leave.
    Postrouting = 4,
}

/// Which chain of a hook comes first: that of the lower number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Where destinations are translated.
    DstNat,
    /// Where sources are translated.
    SrcNat,
    /// This number.
    Custom(i32),
}

impl Priority {
    fn number(self) -> i32 {
        match self {
            Self::DstNat => -100,
            Self::SrcNat => 100,
            Self::Custom(number) => number,
        }
    }
}

/// What becomes of a packet that no rule of a base chain decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Policy {
    /// It passes.
    Accept = 1,
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseChain {
    kind: &'static str,
    hook: u32,
    priority: Priority,
    policy: Option<Policy>,
}

impl BaseChain {
    /// One that filters.
    pub fn filter(hook: FilterHook, priority: Priority) -> Self {
        Self { kind: "filter", hook: hook as u32, priority, policy: None }
    }

    /// One that translates addresses; only the first packet of a connection comes by.
    pub fn nat(hook: NatHook, priority: Priority) -> Self {
        Self { kind: "nat", hook: hook as u32, priority, policy: None }
    }

    /// With this policy.
    #[must_use]
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy: Some(policy), ..self }
    }
}

/// A chain to add to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a chain does nothing until it is part of a change"]
pub struct Chain {
    pub(super) family: Family,
    table: String,
    name: ChainName,
    base: Option<BaseChain>,
}

impl Chain {
    /// A chain of this table that is reached from rules; an error where the name is no chain's.
    pub fn new(table: impl Into<String>, name: impl Into<String>) -> Result<Self> {
        Ok(Self { family: Family::Inet, table: table.into(), name: ChainName::new(name)?, base: None })
    }

    /// Family of the table.
    pub fn family(self, family: Family) -> Self {
        Self { family, ..self }
    }

    /// Makes it a base chain.
    pub fn base(self, base: BaseChain) -> Self {
        Self { base: Some(base), ..self }
    }

    pub(super) fn write(&self, message: &mut MessageBuilder) {
        message.attribute_text(TABLE, &self.table);
        message.attribute_text(NAME, self.name.as_str());
        let Some(BaseChain { kind, hook, priority, policy }) = self.base else { return };
        message.attribute_text(TYPE, kind);
        message.nest(HOOK, |attributes| {
            attributes.attribute_be32(HOOK_NUMBER, hook);
            attributes.attribute_be32(HOOK_PRIORITY, priority.number() as u32);
        });
        if let Some(policy) = policy {
            message.attribute_be32(POLICY, policy as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_kernel_would_refuse_is_an_error() {
        for bad in [String::new(), "a\0b".to_owned(), "x".repeat(256)] {
            assert!(ChainName::new(bad).is_err());
        }
        assert!(ChainName::new("x".repeat(255)).is_ok());
    }
}
