//! Fences around the members of isolation networks, where the host passes packets on.
//!
//! A member's address leads to the chain of its network and bounds, which looks the other end up in sets. A network has
//! the same few rules whether it has one member or a thousand.

use overlayd_netlink::nft::{
    BaseChain, CtState, Expr, FilterHook, MetaKey, PayloadBase, Policy, Priority, Register, Rule,
};

use super::{
    matchers::{IpVersion, PacketEnd, among, back, by_name_of, equal, follow, icmpv6, jump, load, version},
    sets::{self, BRIDGES, SetKind, TableKind},
};

type Pair = [&'static SetKind; 2];
const FENCED: Pair = [&sets::FENCED4, &sets::FENCED6];
const LEAVING_MAPS: Pair = [&sets::LEAVING4, &sets::LEAVING6];
const ENTERING_MAPS: Pair = [&sets::ENTERING4, &sets::ENTERING6];
const MEMBERS: Pair = [&sets::MEMBERS4, &sets::MEMBERS6];
const OPEN: Pair = [&sets::OPEN4, &sets::OPEN6];
const CLOSED: Pair = [&sets::CLOSED4, &sets::CLOSED6];

/// Before every chain that accepts, of this table or another: a drop here is final, an accept elsewhere would come first.
const PRIORITY: Priority = Priority::Custom(-20);

const FORWARD: &str = "fence";
const OUTPUT: &str = "fence-output";
const INPUT: &str = "fence-input";
const LEAVING: &str = "leaving";
const ENTERING: &str = "entering";

pub(super) fn chains() -> Vec<(&'static str, Option<BaseChain>)> {
    let base = |hook| Some(BaseChain::filter(hook, PRIORITY).policy(Policy::Accept));
    vec![
        (FORWARD, base(FilterHook::Forward)),
        (OUTPUT, base(FilterHook::Output)),
        (INPUT, base(FilterHook::Input)),
        (LEAVING, None),
        (ENTERING, None),
    ]
}

pub(super) fn rules(rule: &dyn Fn(&str) -> Rule) -> Vec<Rule> {
    let neighbours = icmpv6(version(rule(FORWARD), TableKind::Host, IpVersion::V6), 135, 136);
    let hop_limit = load(PayloadBase::Network, 7, 1, Register::R0);
    let mut rules = vec![
        answers(rule(FORWARD)),
        // Where bridged packets come by here (`br_netfilter`), neighbours still find each other. What the host passes on
        // has a lower hop limit.
        neighbours.expr(hop_limit).expr(equal(vec![255])).accept(),
        jump(rule(FORWARD), LEAVING),
        jump(rule(FORWARD), ENTERING),
    ];
    rules.extend(output(rule));
    rules.extend(input(rule));
    for ip in IpVersion::BOTH {
        rules.push(follow(rule(LEAVING), TableKind::Host, ip, PacketEnd::Source, ip.of(LEAVING_MAPS)));
        rules.push(follow(rule(ENTERING), TableKind::Host, ip, PacketEnd::Destination, ip.of(ENTERING_MAPS)));
    }
    rules
}

/// The chains of a group: what its members may send, and what may be sent to those that not everybody may reach.
pub(super) fn group_chains(network: &str, group: &str) -> [String; 2] {
    [LEAVING, ENTERING].map(|way| format!("{way}-{network}-{group}"))
}

/// The rules of a group's chains.
pub(super) fn group_rules(rule: &dyn Fn(&str) -> Rule, network: &str, group: &str) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (chain, other_end) in group_chains(network, group).iter().zip([PacketEnd::Destination, PacketEnd::Source]) {
        for ip in IpVersion::BOTH {
            let other =
                |set: Pair, of: &str| among(rule(chain), TableKind::Host, ip, other_end, &ip.of(set).name_of(of));
            rules.push(back(other(MEMBERS, network)));
            rules.push(back(other(OPEN, group)));
            rules.push(other(CLOSED, group).drop());
        }
    }
    rules
}

/// Members that are processes on the host itself. What stays on the host is looked at when it arrives.
fn output(rule: &dyn Fn(&str) -> Rule) -> Vec<Rule> {
    let redirect = |ip: IpVersion, kind: u8, protocol: u8| {
        let rule = version(by_name_of(rule(OUTPUT), MetaKey::OifName, BRIDGES), TableKind::Host, ip);
        let rule = rule.expr(Expr::Meta { dreg: Register::R0, key: MetaKey::L4Proto }).expr(equal(vec![protocol]));
        rule.expr(load(PayloadBase::Transport, 0, 1, Register::R0)).expr(equal(vec![kind])).drop()
    };
    vec![
        // Packets between networks on one bridge go by the host on purpose.
        redirect(IpVersion::V4, 5, 1),
        redirect(IpVersion::V6, 137, 58),
        answers(rule(OUTPUT)),
        rule(OUTPUT).match_oif("lo").accept(),
        jump(rule(OUTPUT), LEAVING),
    ]
}

/// The host's own addresses are open to members, but for those that are members themselves.
fn input(rule: &dyn Fn(&str) -> Rule) -> Vec<Rule> {
    let to_member = |ip: IpVersion| {
        jump(among(rule(INPUT), TableKind::Host, ip, PacketEnd::Destination, ip.of(FENCED).name), LEAVING)
    };
    vec![
        answers(rule(INPUT)),
        to_member(IpVersion::V4),
        to_member(IpVersion::V6),
        rule(INPUT).match_iif("lo").accept(),
        jump(rule(INPUT), ENTERING),
    ]
}

fn answers(rule: Rule) -> Rule {
    rule.match_ct_state(CtState::ESTABLISHED | CtState::RELATED).accept()
}
