//! Published ports: packets to a port of the host are sent on to the container.

use overlayd_netlink::nft::{
    BaseChain, CtStatus, Expr, Family, FibFlags, LookupExpr, MetaKey, NatHook, PayloadBase, Policy, Priority, Register,
    RouteType, Rule, destination_nat,
};

use super::{
    matchers::{IpVersion, PacketEnd, address, by_name_of, load, version, within},
    sets::{self, BRIDGES, SetKind, TableKind},
};

const ARRIVING: &str = "publish";
const OWN: &str = "publish-own";

pub(super) fn chains() -> Vec<(&'static str, Option<BaseChain>)> {
    let base = |hook| Some(BaseChain::nat(hook, Priority::DstNat).policy(Policy::Accept));
    vec![(ARRIVING, base(NatHook::Prerouting)), (OWN, base(NatHook::Output))]
}

pub(super) fn rules(rule: &dyn Fn(&str) -> Rule) -> Vec<Rule> {
    let mut rules = vec![
        // A packet to the loopback cannot leave the host by another interface.
        version(rule(OWN), TableKind::Host, IpVersion::V4).match_daddr_v4([127, 0, 0, 0].into(), 8).accept(),
        version(rule(OWN), TableKind::Host, IpVersion::V6).match_daddr_v6(std::net::Ipv6Addr::LOCALHOST, 128).accept(),
    ];
    for chain in [ARRIVING, OWN] {
        for ip in IpVersion::BOTH {
            let local = rule(chain).match_fib_type(FibFlags::DADDR, RouteType::Local);
            rules.push(at_address(rule(chain), ip));
            rules.push(anywhere(local, ip));
        }
    }
    // The kernel drops a packet whose source is an address of the receiver, as a martian.
    rules.extend(IpVersion::BOTH.map(|ip| to_itself(rule("source"), ip).masquerade()));
    // A container that answers another one on its own bridge would answer it directly, and not be understood.
    let hairpin = by_name_of(by_name_of(rule("source"), MetaKey::IifName, BRIDGES), MetaKey::OifName, BRIDGES);
    rules.push(hairpin.match_ct_status(CtStatus::DST_NAT).masquerade());
    rules
}

/// Matches what a container sends to itself by a port of the host's. Interfaces do not tell: where bridged packets come by
/// here (`br_netfilter`), the one that they came in by is not known any more.
fn to_itself(rule: Rule, ip: IpVersion) -> Rule {
    let destination = match ip {
        IpVersion::V4 => Register::Reg32_01,
        IpVersion::V6 => Register::R1,
    };
    let rule = version(rule, TableKind::Host, ip).expr(address(ip, PacketEnd::Source, Register::R0));
    let pair = within(ip.of([&sets::SELVES4, &sets::SELVES6]));
    rule.expr(address(ip, PacketEnd::Destination, destination)).expr(pair).match_ct_status(CtStatus::DST_NAT)
}

/// Ports of certain addresses of the host.
fn at_address(rule: Rule, ip: IpVersion) -> Rule {
    let rule = version(rule, TableKind::Host, ip).expr(address(ip, PacketEnd::Destination, Register::R0));
    let (protocol, port) = match ip {
        IpVersion::V4 => (Register::Reg32_01, Register::Reg32_02),
        IpVersion::V6 => (Register::Reg32_04, Register::Reg32_05),
    };
    translated(keyed(rule, protocol, port), ip, [&sets::PORTS_AT4, &sets::PORTS_AT6])
}

/// Ports of all addresses of the host.
fn anywhere(rule: Rule, ip: IpVersion) -> Rule {
    let rule = keyed(version(rule, TableKind::Host, ip), Register::Reg32_00, Register::Reg32_01);
    translated(rule, ip, [&sets::PORTS4, &sets::PORTS6])
}

fn keyed(rule: Rule, protocol: Register, port: Register) -> Rule {
    rule.expr(Expr::Meta { dreg: protocol, key: MetaKey::L4Proto }).expr(load(PayloadBase::Transport, 2, 2, port))
}

fn translated(rule: Rule, ip: IpVersion, maps: [&'static SetKind; 2]) -> Rule {
    let (family, port) = match ip {
        IpVersion::V4 => (Family::Ip, Register::Reg32_09),
        IpVersion::V6 => (Family::Ip6, Register::Reg32_12),
    };
    let lookup = LookupExpr::new(ip.of(maps).name, Register::R0).dreg(Register::R2);
    rule.expr(lookup).expr(destination_nat(family, Register::R2, port))
}
