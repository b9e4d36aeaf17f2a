//! The instance's nftables tables: one for what the host passes on, one for what passes between the ports of a bridge.
//!
//! Their rules are the same however many containers there are. Networks and attachments are elements of sets; containers
//! are known by the bridge they come in by, or, where they have no bridge, by the group of their interface.

mod fence;
mod guard;
mod items;
mod publish;
mod sets;
mod store;
mod table;
mod words;

use std::collections::BTreeSet;

use ipnet::IpNet;
use overlayd_core::contract::{self, AttachmentId};
use overlayd_netlink::{
    Netns, conntrack,
    nft::{self, Family, Nft, Outcome, SetElement, Transaction},
};

pub(crate) use self::items::of as items_of;
use self::{
    items::udp_ports,
    sets::{Element, Item, Place, SetName},
    store::Store,
    table::Names,
};
use crate::{error::host, mark::Marks};

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

/// The tables and what is known of them.
#[derive(Debug)]
pub(crate) struct Rules {
    nft: Nft,
    netns: Netns,
    names: Names,
    /// What networks need.
    elements: Elements,
    /// What attachments need.
    store: Store,
    /// What networks needed when we last changed the ruleset, and its generation then.
    installed: Option<(Elements, u32)>,
}

impl Rules {
    /// For the calling thread's network namespace, with what an earlier run left there.
    pub(crate) fn here(marks: &Marks) -> contract::Result<Self> {
        let (nft, names) = (Nft::here().map_err(host)?, Names::new(marks));
        let netns = Netns::current().map_err(host)?;
        let (elements, store, installed) = (Elements::default(), Store::default(), None);
        let mut rules = Self { nft, netns, names, elements, store, installed };
        if rules.is_present(Place::Host)? && rules.is_present(Place::Bridge)? {
            rules.elements = rules.found()?;
            rules.store = Store::found(rules.found_items()?.into_iter());
        }
        Ok(rules)
    }

    /// Makes the sets hold this for the attachment, before anything of it can send a packet.
    pub(crate) fn hold(&mut self, id: &AttachmentId, items: BTreeSet<Item>) -> contract::Result<()> {
        let none = BTreeSet::new();
        let have = self.store.items_of(id).unwrap_or(&none);
        let changed = udp_ports(have.symmetric_difference(&items));
        self.change(id, &items)?;
        self.store.settle(id, items);
        if !changed.is_empty() {
            let forgotten = self.netns.run(|| conntrack::forget_udp_to(&changed)).map_err(host)?.map_err(host)?;
            tracing::debug!(attachment = %id, forgotten, "UDP flows to changed ports start anew");
        }
        Ok(())
    }

    /// Takes all of the attachment out of the sets.
    pub(crate) fn release(&mut self, id: &AttachmentId) -> contract::Result<()> {
        if self.store.items_of(id).is_none() {
            Ok(())
        } else {
            self.hold(id, BTreeSet::new())?;
            self.tidy()
        }
    }

    /// The attachments that have in the ruleset what they need. None of them where somebody took it away.
    pub(crate) fn standing(&mut self) -> contract::Result<Vec<AttachmentId>> {
        let generation = self.nft.generation().map_err(host)?;
        let ours = self.installed.as_ref().is_some_and(|(_, then)| *then == generation);
        let stands = ours || (self.is_present(Place::Host)? && self.is_present(Place::Bridge)? && self.is_filled()?);
        Ok(if stands { self.store.owners().cloned().collect() } else { Vec::new() })
    }

    /// Whether the attachment has anything in the sets.
    pub(crate) fn is_needed_by(&self, id: &AttachmentId) -> bool {
        self.store.items_of(id).is_some()
    }

    /// Whether every attachment's elements are in the sets, and the rules in the tables.
    fn is_filled(&self) -> contract::Result<bool> {
        let have: BTreeSet<Item> = self.found_items()?.into_iter().map(|(item, _)| item).collect();
        let rules = self.nft.count_rules(Family::Inet, &self.names.table).map_err(host)?
            + self.nft.count_rules(Family::Bridge, &self.names.table).map_err(host)?;
        let contents = self.store.all();
        let is_there = |item: &Item| !matches!(item, Item::Element(_)) || have.contains(item);
        Ok(contents.iter().all(|(_, item)| is_there(item)) && rules == self.names.rule_count(&contents))
    }

    /// What an earlier run left in the table.
    fn found(&self) -> contract::Result<Elements> {
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

    /// What networks need, as an earlier run or the last change left it.
    pub(crate) fn of_networks(&self) -> Elements {
        self.elements.clone()
    }

    /// Makes the tables hold exactly this for networks. Where nobody changed the ruleset since our last change, only the
    /// difference is sent; else the whole tables are replaced, in one step.
    pub(crate) fn install(&mut self, wanted: &Elements) -> contract::Result<()> {
        self.elements = wanted.clone();
        for _ in 0..ATTEMPTS {
            let generation = self.nft.generation().map_err(host)?;
            let change = match &self.installed {
                Some((have, then)) if *then == generation && have == wanted => return Ok(()),
                Some((have, then)) if *then == generation && have.ranges == wanted.ranges => {
                    self.names.difference(self.nft.transaction(), have, wanted)
                }
                _ => self.names.whole(self.cleared()?, wanted, self.store.all()),
            };
            if self.commit(change, generation)? {
                return Ok(());
            }
        }
        Err(self.overtaken())
    }

    /// Networks need nothing any more.
    pub(crate) fn remove(&mut self) -> contract::Result<()> {
        self.elements = Elements::default();
        if self.store.is_empty() { self.tidy() } else { self.install(&Elements::default()) }
    }

    /// Removes the tables where nobody needs them.
    fn tidy(&mut self) -> contract::Result<()> {
        if !self.store.is_empty() || self.elements != Elements::default() {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let generation = self.nft.generation().map_err(host)?;
            if !self.is_present(Place::Host)? && !self.is_present(Place::Bridge)? {
                self.installed = None;
                return Ok(());
            }
            let change = self.cleared()?;
            if self.commit(change, generation)? {
                self.installed = None;
                return Ok(());
            }
        }
        Err(self.overtaken())
    }

    /// Brings the attachment's elements into the sets, or the whole tables where somebody changed the ruleset.
    fn change(&mut self, id: &AttachmentId, items: &BTreeSet<Item>) -> contract::Result<()> {
        let change = self.store.change(id, items)?;
        for _ in 0..ATTEMPTS {
            let generation = self.nft.generation().map_err(host)?;
            let ours = self.installed.as_ref().is_some_and(|(_, then)| *then == generation);
            if !ours {
                // First what was, then the difference.
                let whole = self.names.whole(self.cleared()?, &self.elements, self.store.all());
                self.commit(whole, generation)?;
                continue;
            }
            if change.is_empty() {
                return Ok(());
            }
            let transaction = self.names.take(self.nft.transaction(), change.gone.clone());
            let transaction = self.names.put(transaction, change.new.clone());
            if self.commit(transaction, generation)? {
                return Ok(());
            }
        }
        Err(self.overtaken())
    }

    /// Whether the change is made; otherwise somebody else was faster.
    fn commit(&mut self, change: Transaction, generation: u32) -> contract::Result<bool> {
        let action = format!("change nftables table {}", self.names.table);
        let Outcome::Applied(now) = self.nft.commit(change, generation, &action).map_err(host)? else {
            return Ok(false);
        };
        self.installed = Some((self.elements.clone(), now));
        Ok(true)
    }

    /// The start of a change that puts the tables there anew.
    fn cleared(&self) -> contract::Result<Transaction> {
        let mut change = self.nft.transaction();
        for place in [Place::Host, Place::Bridge] {
            if self.is_present(place)? {
                change = change.del_table(&self.names.table, place.family());
            }
        }
        Ok(change)
    }

    fn is_present(&self, place: Place) -> contract::Result<bool> {
        self.nft.has_table(place.family(), &self.names.table).map_err(host)
    }

    fn found_items(&self) -> contract::Result<Vec<(Item, Option<AttachmentId>)>> {
        let mut items = Vec::new();
        for place in [Place::Host, Place::Bridge] {
            for name in self.nft.sets(place.family(), &self.names.table).map_err(host)? {
                let Some(set) = SetName::read(place, &name) else { continue };
                let elements = self.nft.elements(place.family(), &self.names.table, &name).map_err(host)?;
                let read = elements.iter().filter_map(|element| Element::read(&set, element));
                items.extend(read.map(|(element, owner)| (Item::Element(element), owner)));
            }
        }
        Ok(items)
    }

    fn elements(&self, set: &str) -> contract::Result<Vec<SetElement>> {
        self.nft.elements(Family::Inet, &self.names.table, set).map_err(host)
    }

    fn overtaken(&self) -> contract::Error {
        let what = format!("nftables table {}", self.names.table);
        contract::Error::Conflict { what, by: "other programs that change the ruleset without a pause".into() }
    }
}
