//! The instance's one nftables table: what the networks' packets may do beyond their bridges.
//!
//! Its rules are the same however many containers there are. Networks are elements of sets; containers are known by
//! the bridge they come in by, or, where they have no bridge, by the group of their interface.

mod table;

use std::collections::BTreeSet;

use ipnet::IpNet;
use overlayd_core::contract;
use overlayd_netlink::nft::{self, Family, Nft, Outcome, SetElement, Transaction};

use crate::{error::host, mark::Marks};
use table::Names;

/// How often a change is made again because somebody else changed the ruleset at the same time.
const ATTEMPTS: usize = 32;

/// What the sets hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Elements {
    /// Our bridges.
    pub(crate) bridges: BTreeSet<String>,
    /// Those whose members may leave the overlay, behind an address of this node.
    pub(crate) egress: BTreeSet<String>,
    /// Overlay devices.
    pub(crate) overlays: BTreeSet<String>,
    /// Ranges that only overlay devices may carry; none contains another.
    pub(crate) ranges: BTreeSet<IpNet>,
}

/// The table and what is known of it.
#[derive(Debug)]
pub(crate) struct Rules {
    nft: Nft,
    names: Names,
    /// What we put there, and the ruleset's generation then.
    installed: Option<(Elements, u32)>,
}

impl Rules {
    /// For the calling thread's network namespace.
    pub(crate) fn here(marks: &Marks) -> contract::Result<Self> {
        let nft = Nft::here().map_err(host)?;
        Ok(Self { nft, names: Names::new(marks), installed: None })
    }

    /// What an earlier run left in the table.
    pub(crate) fn found(&self) -> contract::Result<Elements> {
        let interfaces = |set: &str| -> contract::Result<BTreeSet<String>> {
            Ok(self.elements(set)?.iter().map(nft::interface_of).collect())
        };
        let mut ranges = BTreeSet::new();
        for set in [table::RANGES_V4, table::RANGES_V6] {
            ranges.extend(self.elements(set)?.iter().filter_map(table::range_of).flatten());
        }
        Ok(Elements {
            bridges: interfaces(table::BRIDGES)?,
            egress: interfaces(table::EGRESS)?,
            overlays: interfaces(table::OVERLAYS)?,
            ranges,
        })
    }

    /// Makes the table hold exactly this. Where nobody changed the ruleset since our last change, only the difference is
    /// sent; else the whole table is replaced, in one step.
    pub(crate) fn install(&mut self, wanted: &Elements) -> contract::Result<()> {
        for _ in 0..ATTEMPTS {
            let generation = self.nft.generation().map_err(host)?;
            let change = match &self.installed {
                Some((have, then)) if *then == generation && have == wanted => return Ok(()),
                Some((have, then)) if *then == generation && have.ranges == wanted.ranges => {
                    self.names.difference(self.nft.transaction(), have, wanted)
                }
                _ => self.names.whole(self.cleared()?, wanted),
            };
            let action = format!("change nftables table {}", self.names.table);
            if let Outcome::Applied(now) = self.nft.commit(change, generation, &action).map_err(host)? {
                self.installed = Some((wanted.clone(), now));
                return Ok(());
            }
        }
        Err(self.overtaken())
    }

    /// Removes the table.
    pub(crate) fn remove(&mut self) -> contract::Result<()> {
        self.installed = None;
        for _ in 0..ATTEMPTS {
            let generation = self.nft.generation().map_err(host)?;
            if !self.nft.has_table(Family::Inet, &self.names.table).map_err(host)? {
                return Ok(());
            }
            let change = self.nft.transaction().del_table(&self.names.table, Family::Inet);
            let action = format!("remove nftables table {}", self.names.table);
            if let Outcome::Applied(_) = self.nft.commit(change, generation, &action).map_err(host)? {
                return Ok(());
            }
        }
        Err(self.overtaken())
    }

    /// The start of a change that puts the table there anew.
    fn cleared(&self) -> contract::Result<Transaction> {
        let change = self.nft.transaction();
        let present = self.nft.has_table(Family::Inet, &self.names.table).map_err(host)?;
        Ok(if present { change.del_table(&self.names.table, Family::Inet) } else { change })
    }

    fn elements(&self, set: &str) -> contract::Result<Vec<SetElement>> {
        self.nft.elements(Family::Inet, &self.names.table, set).map_err(host)
    }

    fn overtaken(&self) -> contract::Error {
        let what = format!("nftables table {}", self.names.table);
        contract::Error::Conflict { what, by: "other programs that change the ruleset without a pause".into() }
    }
}
