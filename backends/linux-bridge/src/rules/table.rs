//! The text of the table, in the kernel's terms.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use overlayd_core::contract::AttachmentId;
use overlayd_netlink::nft::{
    BaseChain, Chain, CmpOp, CtState, CtStatus, Expr, Family, FilterHook, INTERFACE_NAME, IcmpxCode, LookupExpr,
    MetaKey, NatHook, PacketField, Policy, Priority, Register, Rule, Set, SetElement, SetKeyType, TcpFlags,
    Transaction, add_interface_set, interface,
};

use super::{
    NetworkElements, fence, guard,
    matchers::goto,
    publish,
    sets::{self, BRIDGES, EGRESS, OVERLAYS, RANGES_V4, RANGES_V6, RuleItem, SetName, SetScope, TableKind},
};
use crate::mark::InstanceMarks;

/// Elements that fit into one message, whose length has 16 bits.
const BATCH: usize = 256;

/// Chain for packets from members.
const FROM_MEMBERS: &str = "from-members";
/// Chain for packets to members, and from the overlay.
const TO_MEMBERS: &str = "to-members";

/// Before the ordinary filters, so that what the fence forbids is gone when another table might let it pass.
const FORWARD_PRIORITY: Priority = Priority::Custom(-10);

/// The table's name, and the group of interfaces that are members without a bridge.
#[derive(Debug)]
pub(super) struct TableLayout {
    pub(super) table: String,
    legs: u32,
}

/// Which end of a packet's way a rule looks at.
#[derive(Debug, Clone, Copy)]
enum PacketSide {
    In,
    Out,
}

/// Whether a rule wants the packet's interface to be in a set, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SetMembership {
    Member,
    Other,
}

impl TableLayout {
    pub(super) fn new(marks: &InstanceMarks) -> Self {
        Self { table: marks.table(), legs: marks.live_group() }
    }

    /// All that is in both tables, with these elements and contents of sets, added to the change that adds the tables.
    pub(super) fn filled(
        &self,
        change: Transaction,
        elements: &NetworkElements,
        contents: Vec<(AttachmentId, RuleItem)>,
    ) -> Transaction {
        let change = (1000..)
            .zip([BRIDGES, EGRESS, OVERLAYS])
            .fold(change, |change, (id, name)| add_interface_set(change, Family::Inet, &self.table, name, id));
        let [.., ranges_v4, ranges_v6] = self.sets();
        let change = change.add_set(ranges_v4).add_set(ranges_v6);
        let change = self.add_sets(change, SetScope::Instance, None);
        let change = self.fill(change, elements);
        let change = self.chains().into_iter().fold(change, Transaction::add_chain);
        let change = self.rules().into_iter().fold(change, Transaction::add_rule);
        self.put(change, contents)
    }

    /// How many rules both tables have with these contents.
    pub(super) fn rule_count(&self, contents: &[(AttachmentId, RuleItem)]) -> usize {
        self.rules().len() + contents.iter().map(|(_, item)| self.own_rules(item).len()).sum::<usize>()
    }

    /// What turns `have` into `wanted`, added to the change. The ranges are the same in both.
    pub(super) fn difference(
        &self,
        change: Transaction,
        have: &NetworkElements,
        wanted: &NetworkElements,
    ) -> Transaction {
        let pairs = [
            (BRIDGES, &have.bridges, &wanted.bridges),
            (EGRESS, &have.egress, &wanted.egress),
            (OVERLAYS, &have.overlays, &wanted.overlays),
        ];
        pairs.into_iter().fold(change, |change, (name, have, wanted)| {
            let set = self.set(name, INTERFACE_NAME);
            let gone: Vec<SetElement> = have.difference(wanted).map(|name| interface(name)).collect();
            let new: Vec<SetElement> = wanted.difference(have).map(|name| interface(name)).collect();
            let change = if gone.is_empty() { change } else { change.del_set_elements(&set, &gone) };
            if new.is_empty() { change } else { change.add_set_elements(&set, &new) }
        })
    }

    /// Puts what attachments need there, added to the change.
    pub(super) fn put(&self, change: Transaction, items: Vec<(AttachmentId, RuleItem)>) -> Transaction {
        let change = items.iter().fold(change, |change, (_, item)| match item {
            RuleItem::Network(network) => self.add_sets(change, SetScope::Network, Some(network)),
            RuleItem::Group(_, group) => self.add_sets(change, SetScope::Group, Some(group)),
            RuleItem::Element(_) => change,
        });
        let change = items.iter().flat_map(|(_, item)| self.own_chains(item)).fold(change, Transaction::add_chain);
        let change = items.iter().flat_map(|(_, item)| self.own_rules(item)).fold(change, Transaction::add_rule);
        self.batches(items).into_iter().fold(change, |change, (set, batch)| change.add_set_elements(&set, &batch))
    }

    /// Takes away what attachments do not need any more, added to the change.
    pub(super) fn take(&self, change: Transaction, items: Vec<(AttachmentId, RuleItem)>) -> Transaction {
        let batches = self.batches(items.clone());
        let change = batches.into_iter().fold(change, |change, (set, batch)| change.del_set_elements(&set, &batch));
        let change = items
            .iter()
            .flat_map(|(_, item)| own_chains(item))
            .fold(change, |change, (family, chain)| change.del_chain(&self.table, &chain, family));
        items.iter().fold(change, |change, (_, item)| {
            let (scope, of) = match item {
                RuleItem::Network(network) => (SetScope::Network, network),
                RuleItem::Group(_, group) => (SetScope::Group, group),
                RuleItem::Element(_) => return change,
            };
            sets::ALL
                .iter()
                .filter(|kind| kind.scope == scope)
                .fold(change, |change, kind| change.del_set(&self.table, &kind.name_of(of), kind.place.family()))
        })
    }

    fn add_sets(&self, change: Transaction, scope: SetScope, of: Option<&String>) -> Transaction {
        let kinds = sets::ALL.iter().filter(|kind| kind.scope == scope);
        kinds.fold(change, |change, kind| change.add_set(SetName { kind, of: of.cloned() }.set(&self.table)))
    }

    fn own_chains(&self, item: &RuleItem) -> Vec<Chain> {
        let chain = |(family, name): (Family, String)| {
            Chain::new(self.table.as_str(), name).expect("names of chains derive from hashes").family(family)
        };
        own_chains(item).into_iter().map(chain).collect()
    }

    fn own_rules(&self, item: &RuleItem) -> Vec<Rule> {
        match item {
            RuleItem::Network(network) => {
                guard::network_rules(&|chain| Rule::new(&self.table, chain).family(Family::Bridge), network)
            }
            RuleItem::Group(network, group) => fence::group_rules(&|chain| self.rule(chain), network, group),
            RuleItem::Element(_) => Vec::new(),
        }
    }

    fn batches(&self, items: Vec<(AttachmentId, RuleItem)>) -> Vec<(Set, Vec<SetElement>)> {
        let mut by_set: BTreeMap<SetName, Vec<SetElement>> = BTreeMap::new();
        for (owner, item) in items {
            if let RuleItem::Element(element) = item {
                by_set.entry(element.set.clone()).or_default().push(element.told(&owner));
            }
        }
        let batches = by_set.into_iter().flat_map(|(name, elements)| {
            let batches: Vec<_> = elements.chunks(BATCH).map(|batch| (name.set(&self.table), batch.to_vec())).collect();
            batches
        });
        batches.collect()
    }

    fn set(&self, name: &str, key: SetKeyType) -> Set {
        Set::new(&self.table, name).family(Family::Inet).key_type(key)
    }

    fn sets(&self) -> [Set; 5] {
        [
            self.set(BRIDGES, INTERFACE_NAME),
            self.set(EGRESS, INTERFACE_NAME),
            self.set(OVERLAYS, INTERFACE_NAME),
            self.set(RANGES_V4, SetKeyType::Ipv4Addr).interval(),
            self.set(RANGES_V6, SetKeyType::Ipv6Addr).interval(),
        ]
    }

    fn fill(&self, change: Transaction, elements: &NetworkElements) -> Transaction {
        let interfaces = |names: &BTreeSet<String>| names.iter().map(|name| interface(name)).collect::<Vec<_>>();
        let ranges = |v4: bool| -> Vec<SetElement> {
            elements.ranges.iter().filter(|range| range.addr().is_ipv4() == v4).map(element_of).collect()
        };
        let [bridges, egress, overlays, ranges_v4, ranges_v6] = self.sets();
        let contents = [
            (bridges, interfaces(&elements.bridges)),
            (egress, interfaces(&elements.egress)),
            (overlays, interfaces(&elements.overlays)),
            (ranges_v4, ranges(true)),
            (ranges_v6, ranges(false)),
        ];
        contents
            .into_iter()
            .filter(|(_, elements)| !elements.is_empty())
            .fold(change, |change, (set, elements)| change.add_set_elements(&set, &elements))
    }

    fn chains(&self) -> Vec<Chain> {
        let forward = BaseChain::filter(FilterHook::Forward, FORWARD_PRIORITY).policy(Policy::Accept);
        let source = BaseChain::nat(NatHook::Postrouting, Priority::SrcNat).policy(Policy::Accept);
        let mut named =
            vec![("forward", Some(forward)), ("source", Some(source)), (FROM_MEMBERS, None), (TO_MEMBERS, None)];
        named.extend(fence::chains());
        named.extend(guard::chains());
        named.extend(publish::chains());
        let chain = |family: Family| {
            move |(name, base): (&str, Option<BaseChain>)| {
                let chain = Chain::new(self.table.as_str(), name).expect("the names above are valid");
                base.into_iter().fold(chain.family(family), Chain::base)
            }
        };
        let bridged = guard::bridge_chains().into_iter().map(chain(TableKind::Bridge.family()));
        named.into_iter().map(chain(TableKind::Host.family())).chain(bridged).collect()
    }

    fn rules(&self) -> Vec<Rule> {
        let host = |chain: &str| self.rule(chain);
        let bridge = |chain: &str| Rule::new(&self.table, chain).family(Family::Bridge);
        [
            self.forward_rules(),
            self.members_rules(),
            self.arrivals_rules(),
            self.source_rules(),
            fence::rules(&host),
            guard::rules(&host, self.legs),
            publish::rules(&host),
            guard::bridge_rules(&bridge, self.legs),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Sorts packets by whose they are; what is not ours is not looked at further.
    fn forward_rules(&self) -> Vec<Rule> {
        let rule = || self.rule("forward");
        vec![
            goto(by_name(rule(), PacketSide::In, BRIDGES, SetMembership::Member), FROM_MEMBERS),
            goto(self.by_leg(rule(), PacketSide::In, SetMembership::Member), FROM_MEMBERS),
            goto(by_name(rule(), PacketSide::In, OVERLAYS, SetMembership::Member), TO_MEMBERS),
            goto(by_name(rule(), PacketSide::Out, BRIDGES, SetMembership::Member), TO_MEMBERS),
            goto(by_name(rule(), PacketSide::Out, OVERLAYS, SetMembership::Member), TO_MEMBERS),
            goto(self.by_leg(rule(), PacketSide::Out, SetMembership::Member), TO_MEMBERS),
        ]
    }

    fn members_rules(&self) -> Vec<Rule> {
        let rule = || self.rule(FROM_MEMBERS);
        vec![
            clamp(rule()),
            by_name(rule(), PacketSide::Out, BRIDGES, SetMembership::Member).accept(),
            by_name(rule(), PacketSide::Out, OVERLAYS, SetMembership::Member).accept(),
            self.by_leg(rule(), PacketSide::Out, SetMembership::Member).accept(),
            // What is meant for the overlay leaves by an overlay device or not at all: never in the clear.
            rule().match_in_interval_set(PacketField::Ip4Daddr, RANGES_V4).drop(),
            rule().match_in_interval_set(PacketField::Ip6Daddr, RANGES_V6).drop(),
            answers(rule()).accept(),
            by_name(rule(), PacketSide::In, EGRESS, SetMembership::Member).accept(),
            rule().reject_icmpx(IcmpxCode::AdminProhibited),
        ]
    }

    fn arrivals_rules(&self) -> Vec<Rule> {
        let rule = || self.rule(TO_MEMBERS);
        let from_overlay = || by_name(rule(), PacketSide::In, OVERLAYS, SetMembership::Member);
        let from_elsewhere = || by_name(rule(), PacketSide::In, OVERLAYS, SetMembership::Other);
        vec![
            clamp(rule()),
            // A source of the overlay on another interface is spoofed, even if conntrack knows the connection.
            from_elsewhere().match_in_interval_set(PacketField::Ip4Saddr, RANGES_V4).drop(),
            from_elsewhere().match_in_interval_set(PacketField::Ip6Saddr, RANGES_V6).drop(),
            answers(rule()).accept(),
            by_name(from_overlay(), PacketSide::Out, BRIDGES, SetMembership::Member).accept(),
            by_name(from_overlay(), PacketSide::Out, OVERLAYS, SetMembership::Member).accept(),
            self.by_leg(from_overlay(), PacketSide::Out, SetMembership::Member).accept(),
            // Published ports: destination NAT of this host sent it here on purpose.
            rule().match_ct_status(CtStatus::DST_NAT).accept(),
            // A neighbour that routes to us, or from the overlay to what is not ours.
            rule().drop(),
        ]
    }

    /// Members that leave the overlay do so behind an address of this node.
    fn source_rules(&self) -> Vec<Rule> {
        let leaving = || {
            let rule = by_name(self.rule("source"), PacketSide::In, EGRESS, SetMembership::Member);
            let rule = by_name(rule, PacketSide::Out, BRIDGES, SetMembership::Other);
            let rule = by_name(rule, PacketSide::Out, OVERLAYS, SetMembership::Other);
            self.by_leg(rule, PacketSide::Out, SetMembership::Other)
        };
        vec![leaving().masquerade()]
    }

    fn rule(&self, chain: &str) -> Rule {
        Rule::new(&self.table, chain).family(Family::Inet)
    }

    /// Matches interfaces of containers that are members without a bridge.
    fn by_leg(&self, rule: Rule, side: PacketSide, is: SetMembership) -> Rule {
        let key = match side {
            PacketSide::In => MetaKey::IifGroup,
            PacketSide::Out => MetaKey::OifGroup,
        };
        let op = if is == SetMembership::Member { CmpOp::Eq } else { CmpOp::Neq };
        rule.expr(Expr::Meta { dreg: Register::R0, key }).expr(Expr::Cmp {
            sreg: Register::R0,
            op,
            data: self.legs.to_ne_bytes().to_vec(),
        })
    }
}

/// Matches by a set of interface names.
fn by_name(rule: Rule, side: PacketSide, set: &str, is: SetMembership) -> Rule {
    let key = match side {
        PacketSide::In => MetaKey::IifName,
        PacketSide::Out => MetaKey::OifName,
    };
    let lookup = LookupExpr::new(set, Register::R0);
    rule.expr(Expr::Meta { dreg: Register::R0, key }).expr(if is == SetMembership::Member {
        lookup
    } else {
        lookup.invert()
    })
}

/// Matches packets of connections that were let through before.
fn answers(rule: Rule) -> Rule {
    rule.match_ct_state(CtState::ESTABLISHED | CtState::RELATED)
}

/// Keeps the segments of a new TCP connection within what the packets' way carries.
fn clamp(rule: Rule) -> Rule {
    rule.match_tcp_flags(TcpFlags::SYN, TcpFlags::SYN | TcpFlags::RST).clamp_tcp_mss_to_pmtu()
}

/// The chains that a network or group has of its own.
fn own_chains(item: &RuleItem) -> Vec<(Family, String)> {
    match item {
        RuleItem::Network(network) => guard::network_chains(network).map(|chain| (Family::Bridge, chain)).into(),
        RuleItem::Group(network, group) => {
            fence::group_chains(network, group).map(|chain| (Family::Inet, chain)).into()
        }
        RuleItem::Element(_) => Vec::new(),
    }
}

fn element_of(range: &IpNet) -> SetElement {
    match range {
        IpNet::V4(range) => SetElement::ipv4_range(range.network(), range.broadcast()),
        IpNet::V6(range) => SetElement::ipv6_range(range.network(), range.broadcast()),
    }
}

/// The prefixes that an element of a set of ranges stands for.
pub(super) fn range_of(element: &SetElement) -> Option<Vec<IpNet>> {
    let address = |key: &[u8]| -> Option<IpAddr> {
        let v4 = <[u8; 4]>::try_from(key).ok().map(IpAddr::from);
        v4.or_else(|| <[u8; 16]>::try_from(key).ok().map(IpAddr::from))
    };
    let first = address(element.key())?;
    let last = address(element.key_end().unwrap_or(element.key()))?;
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Some(Ipv4Subnets::new(first, last, 0).map(IpNet::from).collect()),
        (IpAddr::V6(first), IpAddr::V6(last)) => Some(Ipv6Subnets::new(first, last, 0).map(IpNet::from).collect()),
        _ => None,
    }
}
