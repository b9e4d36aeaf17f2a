//! Words of rules that several chains use.

use overlayd_netlink::nft::{CmpOp, Expr, Family, LookupExpr, MetaKey, PayloadBase, Register, Rule, Verdict};

use super::sets::{SetKind, TableKind, chain_name};

/// Ethernet types.
pub(super) const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// The version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IpVersion {
    V4,
    V6,
}

/// An end of a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PacketEnd {
    Source,
    Destination,
}

impl IpVersion {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Of the sets for IPv4 and for IPv6, this one's.
    pub(super) fn of(self, pair: [&'static SetKind; 2]) -> &'static SetKind {
        match self {
            Self::V4 => pair[0],
            Self::V6 => pair[1],
        }
    }
}

/// Matches packets of this version.
pub(super) fn version(rule: Rule, place: TableKind, ip: IpVersion) -> Rule {
    match place {
        TableKind::Host => {
            let number = if ip == IpVersion::V4 { Family::Ip } else { Family::Ip6 };
            rule.expr(Expr::Meta { dreg: Register::R0, key: MetaKey::NfProto }).expr(equal(vec![number as u8]))
        }
        TableKind::Bridge => ether_type(rule, if ip == IpVersion::V4 { IPV4 } else { IPV6 }),
    }
}

/// Matches frames of this type; a frame with a VLAN tag has the tag's.
pub(super) fn ether_type(rule: Rule, number: [u8; 2]) -> Rule {
    rule.expr(load(PayloadBase::LinkLayer, 12, 2, Register::R0)).expr(equal(number.to_vec()))
}

/// Matches ICMPv6 of one of these types.
pub(super) fn icmpv6(rule: Rule, first: u8, last: u8) -> Rule {
    let rule = rule.expr(Expr::Meta { dreg: Register::R0, key: MetaKey::L4Proto }).expr(equal(vec![58]));
    let kind = load(PayloadBase::Transport, 0, 1, Register::R0);
    let at_least = Expr::Cmp { sreg: Register::R0, op: CmpOp::Gte, data: vec![first] };
    let at_most = Expr::Cmp { sreg: Register::R0, op: CmpOp::Lte, data: vec![last] };
    rule.expr(kind).expr(at_least).expr(at_most)
}

/// The address at an end of the packet's way.
pub(super) fn address(ip: IpVersion, end: PacketEnd, into: Register) -> Expr {
    let (offset, length) = match (ip, end) {
        (IpVersion::V4, PacketEnd::Source) => (12, 4),
        (IpVersion::V4, PacketEnd::Destination) => (16, 4),
        (IpVersion::V6, PacketEnd::Source) => (8, 16),
        (IpVersion::V6, PacketEnd::Destination) => (24, 16),
    };
    load(PayloadBase::Network, offset, length, into)
}

/// The name of the interface at an end of the packet's way.
pub(super) fn interface(end: PacketEnd, into: Register) -> Expr {
    let key = if end == PacketEnd::Source { MetaKey::IifName } else { MetaKey::OifName };
    Expr::Meta { dreg: into, key }
}

pub(super) fn load(base: PayloadBase, offset: u32, len: u32, into: Register) -> Expr {
    Expr::Payload { dreg: into, base, offset, len }
}

/// Matches where the first register holds this.
pub(super) fn equal(data: Vec<u8>) -> Expr {
    Expr::Cmp { sreg: Register::R0, op: CmpOp::Eq, data }
}

/// Matches where the key that begins in the first register is in the set.
pub(super) fn within(set: &SetKind) -> Expr {
    LookupExpr::new(set.name, Register::R0).into()
}

/// Matches where the key that begins in the first register is not in the set.
pub(super) fn outside(set: &SetKind) -> Expr {
    LookupExpr::new(set.name, Register::R0).invert().into()
}

/// Matches packets whose address at `end` is in the set of that name.
pub(super) fn among(rule: Rule, place: TableKind, ip: IpVersion, end: PacketEnd, set: &str) -> Rule {
    version(rule, place, ip).expr(address(ip, end, Register::R0)).expr(LookupExpr::new(set, Register::R0))
}

/// Goes through the chain that the address at `end` leads to.
pub(super) fn follow(rule: Rule, place: TableKind, ip: IpVersion, end: PacketEnd, map: &SetKind) -> Rule {
    let rule = version(rule, place, ip).expr(address(ip, end, Register::R0));
    rule.expr(LookupExpr::new(map.name, Register::R0).dreg(Register::Verdict))
}

pub(super) fn back(rule: Rule) -> Rule {
    rule.expr(Expr::Verdict(Verdict::Return))
}

pub(super) fn goto(rule: Rule, chain: &str) -> Rule {
    rule.goto(chain_name(chain))
}

pub(super) fn jump(rule: Rule, chain: &str) -> Rule {
    rule.jump(chain_name(chain))
}

/// Matches the interface that this key means by a set of interface names.
pub(super) fn by_name_of(rule: Rule, key: MetaKey, set: &str) -> Rule {
    rule.expr(Expr::Meta { dreg: Register::R0, key }).expr(LookupExpr::new(set, Register::R0))
}
