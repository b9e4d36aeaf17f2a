//! The instance's nftables tables: one for what the host passes on, one for what passes between the ports of a bridge.
//!
//! Their rules are the same however many containers there are. Networks and attachments are elements of sets; containers
//! are known by the bridge they come in by, or, where they have no bridge, by the group of their interface.

mod elements;
mod fence;
mod guard;
mod matchers;
mod obstacles;
mod occupied;
mod publish;
mod sets;
mod store;
mod table;

use std::collections::{BTreeSet, VecDeque};

use ipnet::IpNet;
use overlayd_core::contract::{self, AttachmentId};
use overlayd_netlink::{
    Netns, conntrack,
    nft::{self, Family, Nft, Outcome, SetElement, Tenure, Transaction},
};

pub(crate) use self::elements::of as items_of;
use self::{
    elements::udp_ports,
    sets::{NftElement, RuleItem, SetName, TableKind},
    store::ElementStore,
    table::TableLayout,
};
use crate::mark::InstanceMarks;

/// How often a change is made again because another program changed the ruleset at the same time.
const ATTEMPTS: usize = 32;

/// Whether others may take our tables away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TableProtection {
    /// Only this process may change them, and a flush of the ruleset leaves them alone. They outlive the process. Where
    /// the kernel does not have that (before 6.9), as `None`.
    #[default]
    Held,
    /// Everybody may change them.
    None,
}

/// How many of our changes are remembered: far more than are made before they are heard of.
const OWN_KEPT: usize = 4096;

/// What the sets hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NetworkElements {
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
pub(crate) struct NftRules {
    nft: Nft,
    netns: Netns,
    names: TableLayout,
    /// What networks need.
    elements: NetworkElements,
    /// What attachments need.
    store: ElementStore,
    /// What networks needed when we last changed the ruleset, and its generation then.
    installed: Option<(NetworkElements, u32)>,
    /// How tables are made.
    protection: TableProtection,
    /// What of others was in the way when we last looked.
    obstacles: obstacles::KnownBarriers,
    /// The generations that our last changes led to.
    own: VecDeque<u32>,
}

impl NftRules {
    /// For the calling thread's network namespace, with what an earlier run left there.
    pub(crate) fn here(marks: &InstanceMarks, protection: TableProtection) -> contract::Result<Self> {
        let nft = Nft::here()?;
        let names = TableLayout::new(marks);
        let netns = Netns::current()?;
        let (elements, store, installed) = (NetworkElements::default(), ElementStore::default(), None);
        let obstacles = obstacles::KnownBarriers::default();
        let mut rules =
            Self { nft, netns, names, elements, store, installed, protection, obstacles, own: VecDeque::new() };
        if rules.is_present(TableKind::Host)? && rules.is_present(TableKind::Bridge)? {
            rules.claim()?;
            rules.elements = rules.found()?;
            rules.store = ElementStore::found(rules.found_items()?.into_iter());
        }
        Ok(rules)
    }

    /// Makes the sets hold this for the attachment, before anything of it can send a packet.
    pub(crate) fn hold(&mut self, id: &AttachmentId, items: BTreeSet<RuleItem>) -> contract::Result<()> {
        let none = BTreeSet::new();
        let have = self.store.items_of(id).unwrap_or(&none);
        let changed = udp_ports(have.symmetric_difference(&items));
        self.change(id, &items)?;
        self.store.settle(id, items);
        if !changed.is_empty() {
            let forgotten = self.netns.run(|| conntrack::forget_udp_to(&changed))??;
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

    /// The attachments that have in the ruleset what they need. None of them once another program took it away.
    pub(crate) fn standing(&mut self) -> contract::Result<Vec<AttachmentId>> {
        let generation = self.nft.generation()?;
        let ours = self.installed.as_ref().is_some_and(|(_, then)| *then == generation);
        let stands =
            ours || (self.is_present(TableKind::Host)? && self.is_present(TableKind::Bridge)? && self.is_filled()?);
        Ok(if stands { self.store.owners().cloned().collect() } else { Vec::new() })
    }

    /// Releases the tables, which stay in the kernel as they are, so that another process of this daemon can hold them.
    /// The next change of this process takes them back.
    pub(crate) fn release_tables(&mut self) -> contract::Result<()> {
        self.nft = self.netns.run(Nft::here)??;
        self.installed = None;
        Ok(())
    }

    /// Whether any of these changes of the ruleset, each known by the generation that it led to, is not ours.
    pub(crate) fn are_foreign(&self, generations: &[u32]) -> bool {
        generations.iter().any(|generation| !self.own.contains(generation))
    }

    /// Whether the attachment has anything in the sets.
    pub(crate) fn is_needed_by(&self, id: &AttachmentId) -> bool {
        self.store.items_of(id).is_some()
    }

    /// Whether every attachment's elements are in the sets, and the rules in the tables.
    fn is_filled(&self) -> contract::Result<bool> {
        let have: BTreeSet<RuleItem> = self.found_items()?.into_iter().map(|(item, _)| item).collect();
        let rules = self.nft.count_rules(Family::Inet, &self.names.table)?
            + self.nft.count_rules(Family::Bridge, &self.names.table)?;
        let contents = self.store.all();
        let is_there = |item: &RuleItem| !matches!(item, RuleItem::Element(_)) || have.contains(item);
        Ok(contents.iter().all(|(_, item)| is_there(item)) && rules == self.names.rule_count(&contents))
    }

    /// What an earlier run left in the table.
    fn found(&self) -> contract::Result<NetworkElements> {
        let interfaces = |set: &str| -> contract::Result<BTreeSet<String>> {
            Ok(self.elements(set)?.iter().map(nft::interface_of).collect())
        };
        let mut ranges = BTreeSet::new();
        for set in [sets::RANGES_V4, sets::RANGES_V6] {
            ranges.extend(self.elements(set)?.iter().filter_map(table::range_of).flatten());
        }
        Ok(NetworkElements {
            bridges: interfaces(sets::BRIDGES)?,
            egress: interfaces(sets::EGRESS)?,
            overlays: interfaces(sets::OVERLAYS)?,
            ranges,
        })
    }

    /// What networks need, as an earlier run or the last change left it.
    pub(crate) fn of_networks(&self) -> NetworkElements {
        self.elements.clone()
    }

    /// Makes the tables hold exactly this for networks. As long as no other program changed the ruleset, only the
    /// difference is sent; else the whole tables are replaced, in one step.
    pub(crate) fn install(&mut self, wanted: &NetworkElements) -> contract::Result<()> {
        self.elements = wanted.clone();
        for _ in 0..ATTEMPTS {
            let generation = self.nft.generation()?;
            let change = match &self.installed {
                Some((have, then)) if *then == generation && have == wanted => return Ok(()),
                Some((have, then)) if *then == generation && have.ranges == wanted.ranges => {
                    self.names.difference(self.nft.transaction(), have, wanted)
                }
                _ => self.whole(wanted)?,
            };
            if self.commit(change, generation)? {
                return Ok(());
            }
        }
        Err(self.overtaken())
    }

    /// Networks need nothing any more.
    pub(crate) fn remove(&mut self) -> contract::Result<()> {
        self.elements = NetworkElements::default();
        if self.store.is_empty() { self.tidy() } else { self.install(&NetworkElements::default()) }
    }

    /// Removes the tables once nothing needs them.
    fn tidy(&mut self) -> contract::Result<()> {
        if !self.store.is_empty() || self.elements != NetworkElements::default() {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let generation = self.nft.generation()?;
            if !self.is_present(TableKind::Host)? && !self.is_present(TableKind::Bridge)? {
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

    /// Brings the attachment's elements into the sets, or the whole tables if another program changed the ruleset.
    fn change(&mut self, id: &AttachmentId, items: &BTreeSet<RuleItem>) -> contract::Result<()> {
        let change = self.store.change(id, items)?;
        occupied::check(&self.netns, &change.new)?;
        // A change says which generation it is for, so that one request is enough: the kernel refuses it if
        // another program has committed since.
        if let (false, Some((_, then))) = (change.is_empty(), self.installed.as_ref())
            && self.make(&change, *then)?
        {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let generation = self.nft.generation()?;
            let ours = self.installed.as_ref().is_some_and(|(_, then)| *then == generation);
            if !ours {
                // First what was, then the difference.
                let whole = self.whole(&self.elements)?;
                self.commit(whole, generation)?;
                continue;
            }
            if change.is_empty() || self.make(&change, generation)? {
                return Ok(());
            }
        }
        Err(self.overtaken())
    }

    /// Whether the difference is made; otherwise the ruleset is of another generation.
    fn make(&mut self, change: &store::StoreChange, generation: u32) -> contract::Result<bool> {
        let transaction = self.names.take(self.nft.transaction(), change.gone.clone());
        let transaction = self.names.put(transaction, change.new.clone());
        self.commit(transaction, generation)
    }

    /// Whether the change is made; otherwise another program was faster, or the kernel is to be asked for less.
    fn commit(&mut self, change: Transaction, generation: u32) -> contract::Result<bool> {
        let action = format!("change nftables table {}", self.names.table);
        let outcome = match self.nft.commit(change, generation, &action) {
            Err(error) if error.is_unsupported() && self.protection == TableProtection::Held => {
                tracing::info!("this kernel has no tables that outlive a flush of the ruleset (6.9 has)");
                self.protection = TableProtection::None;
                return Ok(false);
            }
            Err(error) if error.is_forbidden() && self.is_held()? => return Err(self.taken()),
            outcome => outcome?,
        };
        let Outcome::Applied(now) = outcome else { return Ok(false) };
        self.installed = Some((self.elements.clone(), now));
        if self.own.len() == OWN_KEPT {
            self.own.pop_front();
        }
        self.own.push_back(now);
        Ok(true)
    }

    /// Holds the tables that an earlier process of this daemon left, so that no other program can delete them.
    fn claim(&self) -> contract::Result<()> {
        let orphaned = |(place, tenure)| (tenure == Some(Tenure::Orphaned)).then_some(place);
        let orphans: Vec<TableKind> = self.tenures()?.into_iter().filter_map(orphaned).collect();
        if orphans.is_empty() {
            return Ok(());
        }
        let claim = |change, place: TableKind| nft::claim_table(change, place.family(), &self.names.table);
        let change = orphans.into_iter().fold(self.nft.transaction(), claim);
        let generation = self.nft.generation()?;
        match self.nft.commit(change, generation, "claim the tables of an earlier run") {
            // Our first change claims them again.
            Err(error) => tracing::debug!(%error, "the tables of an earlier run are not held yet"),
            Ok(outcome) => tracing::debug!(?outcome, "claimed the tables of an earlier run"),
        }
        Ok(())
    }

    /// The start of a change that puts the tables there anew.
    fn cleared(&self) -> contract::Result<Transaction> {
        let table = &self.names.table;
        let gone = |change: Transaction, (place, tenure): (TableKind, Option<Tenure>)| match tenure {
            None => change,
            Some(Tenure::Orphaned) => nft::claim_table(change, place.family(), table).del_table(table, place.family()),
            Some(Tenure::Common | Tenure::Held) => change.del_table(table, place.family()),
        };
        Ok(self.tenures()?.into_iter().fold(self.nft.transaction(), gone))
    }

    /// The change that puts the tables there anew, with these elements.
    fn whole(&self, elements: &NetworkElements) -> contract::Result<Transaction> {
        let add = |change: Transaction, place: TableKind| match self.protection {
            TableProtection::Held => nft::add_held_table(change, place.family(), &self.names.table),
            TableProtection::None => change.add_table(&self.names.table, place.family()),
        };
        let change = [TableKind::Host, TableKind::Bridge].into_iter().fold(self.cleared()?, add);
        Ok(self.names.filled(change, elements, self.store.all()))
    }

    fn tenures(&self) -> contract::Result<[(TableKind, Option<Tenure>); 2]> {
        let host = self.tenure(TableKind::Host)?;
        let bridge = self.tenure(TableKind::Bridge)?;
        Ok([(TableKind::Host, host), (TableKind::Bridge, bridge)])
    }

    fn is_held(&self) -> contract::Result<bool> {
        Ok(self.tenures()?.iter().any(|(_, tenure)| *tenure == Some(Tenure::Held)))
    }

    fn is_present(&self, place: TableKind) -> contract::Result<bool> {
        Ok(self.tenure(place)?.is_some())
    }

    fn tenure(&self, place: TableKind) -> contract::Result<Option<Tenure>> {
        Ok(self.nft.tenure(place.family(), &self.names.table)?)
    }

    fn found_items(&self) -> contract::Result<Vec<(RuleItem, Option<AttachmentId>)>> {
        let mut items = Vec::new();
        for place in [TableKind::Host, TableKind::Bridge] {
            for name in self.nft.sets(place.family(), &self.names.table)? {
                let Some(set) = SetName::read(place, &name) else { continue };
                let elements = self.nft.elements(place.family(), &self.names.table, &name)?;
                let read = elements.iter().filter_map(|element| NftElement::read(&set, element));
                items.extend(read.map(|(element, owner)| (RuleItem::Element(element), owner)));
            }
        }
        Ok(items)
    }

    fn elements(&self, set: &str) -> contract::Result<Vec<SetElement>> {
        Ok(self.nft.elements(Family::Inet, &self.names.table, set)?)
    }

    fn taken(&self) -> contract::Error {
        let what = format!("nftables table {}", self.names.table);
        contract::Error::Conflict { what, by: "another process that holds it and has to end first".into() }
    }

    fn overtaken(&self) -> contract::Error {
        let what = format!("nftables table {}", self.names.table);
        contract::Error::Conflict { what, by: "other programs that change the ruleset without a pause".into() }
    }
}
