//! Rules: what they look at, and what they do.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    chain::ChainName,
    expression::{Expr, LookupExpr, NumbersExpr, Verdict},
    numbers::{
        CmpOp, CtState, CtStatus, Family, FibFlags, IcmpxCode, MetaKey, PayloadBase, Register, RouteType, TcpFlags,
    },
    set::interface_key,
};
use crate::message::MessageBuilder;

/// `NFTA_RULE_TABLE`, `NFTA_RULE_CHAIN` and `NFTA_RULE_EXPRESSIONS`.
pub(super) const TABLE: u16 = 1;
pub(super) const CHAIN: u16 = 2;
pub(super) const EXPRESSIONS: u16 = 4;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// `NFT_CT_STATE` and `NFT_CT_STATUS`.
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;

/// An address in the header of IP, of packets of its version alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketField {
    /// Source in IPv4.
    Ip4Saddr,
    /// Destination in IPv4.
    Ip4Daddr,
    /// Source in IPv6.
    Ip6Saddr,
    /// Destination in IPv6.
    Ip6Daddr,
}

/// A rule at the end of a chain. Each method adds expressions at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a rule does nothing until it is part of a change"]
pub struct Rule {
    pub(super) family: Family,
    table: String,
    chain: String,
    expressions: Vec<Expr>,
}

impl Rule {
    /// An empty rule of this chain, which takes every packet and does nothing.
    pub fn new(table: &str, chain: &str) -> Self {
        Self { family: Family::Inet, table: table.to_owned(), chain: chain.to_owned(), expressions: Vec::new() }
    }

    /// Family of the table.
    pub fn family(self, family: Family) -> Self {
        Self { family, ..self }
    }

    /// Adds an expression.
    pub fn expr(mut self, expression: impl Into<Expr>) -> Self {
        self.expressions.push(expression.into());
        self
    }

    /// Matches IPv4 packets to this range; the version is to be matched before.
    pub fn match_daddr_v4(self, address: Ipv4Addr, prefix: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0).to_be_bytes();
        self.match_masked(load(16, 4), address.octets().to_vec(), mask.to_vec())
    }

    /// Matches IPv6 packets to this range; the version is to be matched before.
    pub fn match_daddr_v6(self, address: Ipv6Addr, prefix: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0).to_be_bytes();
        self.match_masked(load(24, 16), address.octets().to_vec(), mask.to_vec())
    }

    /// Matches packets that came in by the interface of this name.
    pub fn match_iif(self, name: &str) -> Self {
        self.expr(Expr::Meta { dreg: Register::R0, key: MetaKey::IifName }).equal(interface_key(name))
    }

    /// Matches packets that leave by the interface of this name.
    pub fn match_oif(self, name: &str) -> Self {
        self.expr(Expr::Meta { dreg: Register::R0, key: MetaKey::OifName }).equal(interface_key(name))
    }

    /// Matches packets with one of these states.
    pub fn match_ct_state(self, states: CtState) -> Self {
        self.match_any_bit(CT_STATE, states.0)
    }

    /// Matches packets whose connection has one of these marks.
    pub fn match_ct_status(self, status: CtStatus) -> Self {
        self.match_any_bit(CT_STATUS, status.0)
    }

    /// Matches packets that have this address in the set of ranges of that name.
    pub fn match_in_interval_set(self, field: PacketField, set: &str) -> Self {
        let (version, offset, length) = match field {
            PacketField::Ip4Saddr => (Family::Ip, 12, 4),
            PacketField::Ip4Daddr => (Family::Ip, 16, 4),
            PacketField::Ip6Saddr => (Family::Ip6, 8, 16),
            PacketField::Ip6Daddr => (Family::Ip6, 24, 16),
        };
        let rule = self.expr(Expr::Meta { dreg: Register::R0, key: MetaKey::NfProto }).equal(vec![version as u8]);
        rule.expr(load(offset, length)).expr(LookupExpr::new(set, Register::R0))
    }

    /// Matches packets whose address has such a route.
    pub fn match_fib_type(self, address: FibFlags, kind: RouteType) -> Self {
        /// `NFT_FIB_RESULT_ADDRTYPE`.
        const ADDRESS_TYPE: u32 = 3;
        let words = [(1, Register::R0 as u32), (2, ADDRESS_TYPE), (3, address.0)];
        self.expr(Expr::Numbers(NumbersExpr::new("fib", &words, &[]))).equal((kind as u32).to_ne_bytes().to_vec())
    }

    /// Matches TCP segments that have exactly these of the flags in the mask.
    pub fn match_tcp_flags(self, flags: TcpFlags, mask: TcpFlags) -> Self {
        /// Where the flags are in the header.
        const OFFSET: u32 = 13;
        let rule = self.expr(Expr::Meta { dreg: Register::R0, key: MetaKey::L4Proto }).equal(vec![TCP]);
        let flag_byte = Expr::Payload { dreg: Register::R0, base: PayloadBase::Transport, offset: OFFSET, len: 1 };
        rule.match_masked(flag_byte, vec![flags.0], vec![mask.0])
    }

    /// Lowers the segment size that a new TCP connection announces to what the packet's route carries.
    pub fn clamp_tcp_mss_to_pmtu(self) -> Self {
        /// `NFT_RT_TCPMSS`, `NFT_BYTEORDER_HTON`, `NFT_EXTHDR_OP_TCPOPT`, and the option (RFC 9293), whose value of two
        /// bytes begins at its third.
        const ROUTE_MSS: u32 = 3;
        const HOST_TO_NETWORK: u32 = 1;
        const TCP_OPTION: u32 = 1;
        const MAXIMUM_SEGMENT_SIZE: u8 = 2;
        let register = Register::R0 as u32;
        let route = NumbersExpr::new("rt", &[(1, register), (2, ROUTE_MSS)], &[]);
        let order = [(1, register), (2, register), (3, HOST_TO_NETWORK), (4, 2), (5, 2)];
        let option = [(7, register), (3, 2), (4, 2), (6, TCP_OPTION)];
        self.expr(Expr::Numbers(route))
            .expr(Expr::Numbers(NumbersExpr::new("byteorder", &order, &[])))
            .expr(Expr::Numbers(NumbersExpr::new("exthdr", &option, &[(2, MAXIMUM_SEGMENT_SIZE)])))
    }

    /// The packet passes.
    pub fn accept(self) -> Self {
        self.expr(Expr::Verdict(Verdict::Accept))
    }

    /// The packet is lost.
    pub fn drop(self) -> Self {
        self.expr(Expr::Verdict(Verdict::Drop))
    }

    /// Another chain looks at the packet, and then this one goes on.
    pub fn jump(self, chain: ChainName) -> Self {
        self.expr(Expr::Verdict(Verdict::JumpTo(chain)))
    }

    /// Another chain looks at the packet in place of this one.
    pub fn goto(self, chain: ChainName) -> Self {
        self.expr(Expr::Verdict(Verdict::GotoTo(chain)))
    }

    /// The packet gets an address of the interface that it leaves by as its source.
    pub fn masquerade(self) -> Self {
        self.expr(Expr::Numbers(NumbersExpr::new("masq", &[], &[])))
    }

    /// The packet is lost, and its sender is told so by ICMP of its version.
    pub fn reject_icmpx(self, code: IcmpxCode) -> Self {
        /// `NFT_REJECT_ICMPX_UNREACH`.
        const BY_VERSION: u32 = 2;
        self.expr(Expr::Numbers(NumbersExpr::new("reject", &[(1, BY_VERSION)], &[(2, code as u8)])))
    }

    fn equal(self, data: Vec<u8>) -> Self {
        self.expr(Expr::Cmp { sreg: Register::R0, op: CmpOp::Eq, data })
    }

    fn match_masked(self, load: Expr, data: Vec<u8>, mask: Vec<u8>) -> Self {
        let (len, xor) = (mask.len() as u32, vec![0; mask.len()]);
        let whole = mask.iter().all(|byte| *byte == u8::MAX);
        let rule = self.expr(load);
        let masked = Expr::Bitwise { sreg: Register::R0, dreg: Register::R0, len, mask, xor };
        if whole { rule.equal(data) } else { rule.expr(masked).equal(data) }
    }

    /// Matches where connection tracking has one of these bits.
    fn match_any_bit(self, key: u32, bits: u32) -> Self {
        let (sreg, dreg) = (Register::R0, Register::R0);
        let mask = bits.to_ne_bytes().to_vec();
        self.expr(Expr::Numbers(NumbersExpr::new("ct", &[(1, dreg as u32), (2, key)], &[])))
            .expr(Expr::Bitwise { sreg, dreg, len: 4, mask, xor: vec![0; 4] })
            .expr(Expr::Cmp { sreg, op: CmpOp::Neq, data: vec![0; 4] })
    }

    pub(super) fn write(&self, message: &mut MessageBuilder) {
        message.attribute_text(TABLE, &self.table);
        message.attribute_text(CHAIN, &self.chain);
        message.nest(EXPRESSIONS, |list| self.expressions.iter().for_each(|expression| expression.write(list)));
    }
}

fn load(offset: u32, len: u32) -> Expr {
    Expr::Payload { dreg: Register::R0, base: PayloadBase::Network, offset, len }
}

/// Destination NAT to the address and port that these registers hold.
pub fn destination_nat(family: Family, address: Register, port: Register) -> Expr {
    /// `NFT_NAT_DNAT`, and `NF_NAT_RANGE_MAP_IPS` with `NF_NAT_RANGE_PROTO_SPECIFIED`.
    const DNAT: u32 = 1;
    const ADDRESS_AND_PORT: u32 = 3;
    let (address, port) = (address as u32, port as u32);
    let words =
        [(1, DNAT), (2, family as u32), (3, address), (4, address), (5, port), (6, port), (7, ADDRESS_AND_PORT)];
    Expr::Numbers(NumbersExpr::new("nat", &words, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(rule: Rule) -> Vec<Vec<u8>> {
        let masks = rule.expressions.into_iter().filter_map(|expression| match expression {
            Expr::Bitwise { mask, .. } => Some(mask),
            _ => None,
        });
        masks.collect()
    }

    #[test]
    fn a_whole_address_is_compared_without_a_mask() {
        let rule = || Rule::new("table", "chain");
        assert_eq!(masks(rule().match_daddr_v4([127, 0, 0, 0].into(), 8)), [[255, 0, 0, 0]]);
        assert_eq!(masks(rule().match_daddr_v4([0; 4].into(), 0)), [[0; 4]]);
        assert!(masks(rule().match_daddr_v4([127, 0, 0, 1].into(), 32)).is_empty());
        assert!(masks(rule().match_daddr_v6(Ipv6Addr::LOCALHOST, 128)).is_empty());
    }
}
