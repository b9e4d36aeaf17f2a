//! Containers send by their own addresses only, and between networks on one bridge only by way of the host, whose fences
//! know connections.

use overlayd_netlink::nft::{
    BaseChain, CmpOp, Expr, FilterHook, LookupExpr, MetaKey, PayloadBase, PayloadCsum, Policy, Priority, Register, Rule,
};

use super::{
    matchers::{
        ARP, IpVersion, PacketEnd, address, among, equal, ether_type, follow, goto, icmpv6, interface, load, outside,
        version, within,
    },
    sets::{self, SetKind, TableKind},
};

type Pair = [&'static SetKind; 2];
const PORT_SOURCES: Pair = [&sets::PORT_SOURCES4, &sets::PORT_SOURCES6];
const LEG_SOURCES: Pair = [&sets::LEG_SOURCES4, &sets::LEG_SOURCES6];
const BRIDGED: Pair = [&sets::BRIDGED4, &sets::BRIDGED6];
const BRIDGED_LEAVING: Pair = [&sets::BRIDGED_LEAVING4, &sets::BRIDGED_LEAVING6];
const BRIDGED_MEMBERS: Pair = [&sets::BRIDGED_MEMBERS4, &sets::BRIDGED_MEMBERS6];

/// Before connections are tracked: what is dropped here leaves no trace.
const FIRST: Priority = Priority::Custom(-300);

const GUARD: &str = "guard";
const CHECK: &str = "check";
const GATE: &str = "gate";
const BY_HOST: &str = "by-host";
const BETWEEN: &str = "between";
const HAIRPIN: &str = "hairpin";

/// Router advertisements and redirects are not a container's to send.
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// Listeners of multicast groups make themselves known: RFC 2710, 130 to 132, and RFC 3810.
const LISTENERS: (u8, u8) = (130, 132);
const LISTENERS_V2: u8 = 143;

/// Chains of the host's table.
pub(super) fn chains() -> Vec<(&'static str, Option<BaseChain>)> {
    vec![(GUARD, Some(BaseChain::filter(FilterHook::Prerouting, FIRST).policy(Policy::Accept))), (CHECK, None)]
}

/// Rules of the host's table: interfaces of containers without a bridge, which are those of the group.
pub(super) fn rules(rule: &dyn Fn(&str) -> Rule, legs: u32) -> Vec<Rule> {
    vec![
        goto(of_group(rule(GUARD), CmpOp::Eq, legs), CHECK),
        own(rule(CHECK), TableKind::Host, IpVersion::V4, LEG_SOURCES).accept(),
        own(rule(CHECK), TableKind::Host, IpVersion::V6, LEG_SOURCES).accept(),
        nameless(rule(CHECK), TableKind::Host).accept(),
        rule(CHECK).drop(),
    ]
}

/// Chains of the bridges' table.
pub(super) fn bridge_chains() -> Vec<(&'static str, Option<BaseChain>)> {
    let base = |hook| Some(BaseChain::filter(hook, FIRST).policy(Policy::Accept));
    vec![
        (GUARD, base(FilterHook::Prerouting)),
        (BETWEEN, base(FilterHook::Forward)),
        ("arp", None),
        (GATE, None),
        (BY_HOST, None),
        (HAIRPIN, None),
    ]
}

/// Rules of the bridges' table.
pub(super) fn bridge_rules(rule: &dyn Fn(&str) -> Rule, legs: u32) -> Vec<Rule> {
    let mut rules = vec![of_group(rule(GUARD), CmpOp::Neq, legs).accept()];
    rules.extend(sender(rule));
    rules.extend(arp(rule));
    rules.extend(gate(rule));
    rules.extend(between(rule));
    rules
}

/// What a container may send at all.
fn sender(rule: &dyn Fn(&str) -> Rule) -> Vec<Rule> {
    let mac = rule(GUARD)
        .expr(interface(PacketEnd::Source, Register::R0))
        .expr(load(PayloadBase::LinkLayer, 6, 6, Register::R1))
        .expr(outside(&sets::PORT_MACS));
    let icmp = |first: u8, last: u8| icmpv6(version(rule(GUARD), TableKind::Bridge, IpVersion::V6), first, last);
    let claimed = icmp(NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_ADVERTISEMENT)
        .expr(interface(PacketEnd::Source, Register::R0))
        .expr(load(PayloadBase::Transport, 8, 16, Register::R1))
        .expr(outside(&sets::PORT_SOURCES6));
    vec![
        mac.drop(),
        goto(ether_type(rule(GUARD), ARP), "arp"),
        icmp(ROUTER_ADVERTISEMENT, ROUTER_ADVERTISEMENT).drop(),
        icmp(REDIRECT, REDIRECT).drop(),
        claimed.drop(),
        goto(own(rule(GUARD), TableKind::Bridge, IpVersion::V4, PORT_SOURCES), GATE),
        goto(own(rule(GUARD), TableKind::Bridge, IpVersion::V6, PORT_SOURCES), GATE),
        nameless(rule(GUARD), TableKind::Bridge).accept(),
        rule(GUARD).drop(),
    ]
}

/// ARP speaks for the sender's own address, or, while it looks whether that is free, for none (RFC 5227).
fn arp(rule: &dyn Fn(&str) -> Rule) -> Vec<Rule> {
    let field = |offset: u32, length: u32, into: Register| load(PayloadBase::Network, offset, length, into);
    let speaks = |start: Rule| start.expr(interface(PacketEnd::Source, Register::R0));
    let unusual = rule("arp").expr(field(0, 6, Register::R0)).expr(Expr::Cmp {
        sreg: Register::R0,
        op: CmpOp::Neq,
        // Ethernet and IPv4.
        data: vec![0, 1, 8, 0, 6, 4],
    });
    vec![
        unusual.drop(),
        speaks(rule("arp")).expr(field(8, 6, Register::R1)).expr(outside(&sets::PORT_MACS)).drop(),
        rule("arp").expr(field(14, 4, Register::R0)).expr(equal(vec![0; 4])).accept(),
        speaks(rule("arp")).expr(field(14, 4, Register::R1)).expr(within(&sets::PORT_SOURCES4)).accept(),
        rule("arp").drop(),
    ]
}

/// Packets between a member and anybody but its network are handed to the host instead of another port.
fn gate(rule: &dyn Fn(&str) -> Rule) -> Vec<Rule> {
    let group = group_bit(rule(GATE), 1);
    let link_local =
        version(rule(GATE), TableKind::Bridge, IpVersion::V6).expr(load(PayloadBase::Network, 24, 1, Register::R0));
    let to_host = rule(BY_HOST)
        .expr(interface(PacketEnd::Source, Register::R0))
        .expr(LookupExpr::new(sets::GATES.name, Register::R0).dreg(Register::R0))
        .expr(Expr::PayloadSet {
            sreg: Register::R0,
            base: PayloadBase::LinkLayer,
            offset: 0,
            len: 6,
            csum: PayloadCsum::None,
            csum_offset: 0,
            l4_pseudo_header: false,
        })
        // `PACKET_HOST`: the frame is for this host.
        .expr(Expr::Immediate { dreg: Register::R0, data: vec![0] })
        .expr(Expr::MetaSet { key: MetaKey::PktType, sreg: Register::R0 });
    let mut rules = vec![group.accept(), link_local.expr(equal(vec![0xfe])).accept()];
    // Neighbours find each other without the host.
    let neighbours = version(rule(GATE), TableKind::Bridge, IpVersion::V6);
    rules.push(icmpv6(neighbours, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT).accept());
    for ip in IpVersion::BOTH {
        rules.push(follow(rule(GATE), TableKind::Bridge, ip, PacketEnd::Source, ip.of(BRIDGED_LEAVING)));
    }
    rules.push(goto(rule(GATE).expr(interface(PacketEnd::Source, Register::R0)).expr(within(&sets::WIRED)), BY_HOST));
    for ip in IpVersion::BOTH {
        rules
            .push(goto(among(rule(GATE), TableKind::Bridge, ip, PacketEnd::Destination, ip.of(BRIDGED).name), BY_HOST));
    }
    rules.extend([to_host.accept(), rule(BY_HOST).drop()]);
    rules
}

/// From port to port: within a network everything, between two networks nothing, and between a member and others what
/// it takes for neighbours to find each other.
fn between(rule: &dyn Fn(&str) -> Rule) -> Vec<Rule> {
    let wired = |end: PacketEnd| rule(BETWEEN).expr(interface(end, Register::R0)).expr(within(&sets::WIRED));
    let found = |first, last| icmpv6(version(rule(BETWEEN), TableKind::Bridge, IpVersion::V6), first, last).accept();
    let wire = LookupExpr::new(sets::WIRES.name, Register::R0).dreg(Register::Verdict);
    let [back, own] = hairpin(rule);
    // A packet to a member has been handed to the host at the gate, unless it was for a published port of the host then, and
    // was given the member's address where bridged packets come by the host's rules, whose fences look at it next.
    let translated = |ip: IpVersion| {
        let set = ip.of(BRIDGED).name;
        among(group_bit(rule(BETWEEN), 0), TableKind::Bridge, ip, PacketEnd::Destination, set).accept()
    };
    vec![
        back,
        own,
        rule(HAIRPIN).drop(),
        rule(BETWEEN).expr(interface(PacketEnd::Source, Register::R0)).expr(wire),
        ether_type(rule(BETWEEN), ARP).accept(),
        found(LISTENERS.0, LISTENERS.1),
        found(NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT),
        found(LISTENERS_V2, LISTENERS_V2),
        wired(PacketEnd::Source).drop(),
        translated(IpVersion::V4),
        translated(IpVersion::V6),
        wired(PacketEnd::Destination).drop(),
    ]
}

/// Where bridged packets come by the host's rules (`br_netfilter`), what a container sends to a port of its own is given its
/// own hardware address and goes back. Nothing else does: a container must not hear its own shouting.
fn hairpin(rule: &dyn Fn(&str) -> Rule) -> [Rule; 2] {
    let both = rule(BETWEEN)
        .expr(interface(PacketEnd::Source, Register::R0))
        .expr(interface(PacketEnd::Destination, Register::R1));
    let own = rule(HAIRPIN)
        .expr(interface(PacketEnd::Destination, Register::R0))
        .expr(load(PayloadBase::LinkLayer, 0, 6, Register::R1))
        .expr(within(&sets::PORT_MACS));
    [goto(both.expr(within(&sets::HAIRPINS)), HAIRPIN), own.accept()]
}

/// The chains of a network in the bridges' table: for what its members send, and for what comes by their ports.
pub(super) fn network_chains(network: &str) -> [String; 2] {
    ["gate", "wire"].map(|chain| format!("{chain}-{network}"))
}

/// The rules of a network's chains.
pub(super) fn network_rules(rule: &dyn Fn(&str) -> Rule, network: &str) -> Vec<Rule> {
    let [gate, wire] = network_chains(network);
    let mut rules: Vec<Rule> = IpVersion::BOTH
        .into_iter()
        .map(|ip| {
            let set = ip.of(BRIDGED_MEMBERS).name_of(network);
            among(rule(&gate), TableKind::Bridge, ip, PacketEnd::Destination, &set).accept()
        })
        .collect();
    let plug = || rule(&wire).expr(interface(PacketEnd::Destination, Register::R0));
    rules.push(plug().expr(LookupExpr::new(sets::PLUGS.name_of(network), Register::R0)).accept());
    rules.push(plug().expr(within(&sets::WIRED)).drop());
    rules
}

/// Matches frames for many (1) or for one (0), by the first byte of the hardware address.
fn group_bit(rule: Rule, bit: u8) -> Rule {
    let first = rule.expr(load(PayloadBase::LinkLayer, 0, 1, Register::R0));
    let (sreg, dreg) = (Register::R0, Register::R0);
    first.expr(Expr::Bitwise { sreg, dreg, len: 1, mask: vec![1], xor: vec![0] }).expr(equal(vec![bit]))
}

/// Matches packets from an address of the interface's own.
fn own(rule: Rule, place: TableKind, ip: IpVersion, sets: Pair) -> Rule {
    version(rule, place, ip)
        .expr(interface(PacketEnd::Source, Register::R0))
        .expr(address(ip, PacketEnd::Source, Register::R1))
        .expr(within(ip.of(sets)))
}

/// Matches what IPv6 sends before it has an address (RFC 4862).
fn nameless(rule: Rule, place: TableKind) -> Rule {
    let rule = version(rule, place, IpVersion::V6)
        .expr(address(IpVersion::V6, PacketEnd::Source, Register::R0))
        .expr(equal(vec![0; 16]));
    rule.expr(Expr::Meta { dreg: Register::R0, key: MetaKey::L4Proto }).expr(equal(vec![58]))
}

fn of_group(rule: Rule, op: CmpOp, group: u32) -> Rule {
    let data = group.to_ne_bytes().to_vec();
    rule.expr(Expr::Meta { dreg: Register::R0, key: MetaKey::IifGroup }).expr(Expr::Cmp {
        sreg: Register::R0,
        op,
        data,
    })
}
