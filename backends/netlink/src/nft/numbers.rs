//! The kernel's numbers for what tables, chains and rules are made of (`linux/netfilter.h`,
//! `linux/netfilter/nf_tables.h`).

use std::ops::BitOr;

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// What passes between the ports of a bridge.
    Bridge = 7,
    /// IPv6.
    Ip6 = 10,
}

impl Family {
    /// The family of this number.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::Inet, Self::Ip, Self::Bridge, Self::Ip6].into_iter().find(|family| *family as u8 == number)
    }

    /// As nft calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Bridge => "bridge",
            Self::Ip6 => "ip6",
        }
    }
}

/// Where an expression puts what it loads. The registers share 64 bytes: `R0` to `R3` are 16 bytes each, `Reg32_00` to
/// `Reg32_15` four. What begins a register of 16 bytes is written by that one's number, as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "they are numbered")]
pub enum Register {
    /// What becomes of the packet.
    Verdict = 0,
    R0 = 1,
    R1 = 2,
    R2 = 3,
    R3 = 4,
    Reg32_01 = 9,
    Reg32_02 = 10,
    Reg32_05 = 13,
    Reg32_09 = 17,
}

impl Register {
    /// The first four bytes of all registers.
    #[expect(non_upper_case_globals, reason = "another name of a variant")]
    pub const Reg32_00: Self = Self::R0;
    /// The first four bytes of the second register of 16 bytes.
    #[expect(non_upper_case_globals, reason = "another name of a variant")]
    pub const Reg32_04: Self = Self::R1;
    /// The first four bytes of the fourth register of 16 bytes.
    #[expect(non_upper_case_globals, reason = "another name of a variant")]
    pub const Reg32_12: Self = Self::R3;
}

/// What the kernel knows of a packet that is not in its bytes (`enum nft_meta_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum MetaKey {
    /// Name of the interface it came in by, in 16 bytes.
    IifName = 6,
    /// Name of the interface it leaves by, in 16 bytes.
    OifName = 7,
    /// Version of IP, as a number of [`Family`].
    NfProto = 15,
    /// Protocol of the transport layer.
    L4Proto = 16,
    /// Whom the frame is for.
    PktType = 19,
    /// Group of the interface it came in by.
    IifGroup = 21,
    /// Group of the interface it leaves by.
    OifGroup = 22,
}

/// Where in the packet an offset counts from (`enum nft_payload_bases`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum PayloadBase {
    /// The Ethernet header.
    LinkLayer = 0,
    /// The header of IP or ARP.
    Network = 1,
    /// The header of TCP, UDP or ICMP.
    Transport = 2,
}

/// Which checksum a change of the packet's bytes has to correct (`enum nft_payload_csum_types`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum PayloadCsum {
    /// None.
    None = 0,
}

/// How a register is compared (`enum nft_cmp_ops`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum CmpOp {
    /// Equal.
    Eq = 0,
    /// Not equal.
    Neq = 1,
    /// Less or equal, as big-endian numbers.
    Lte = 3,
    /// Greater or equal, as big-endian numbers.
    Gte = 5,
}

/// What connection tracking says of a packet; several at once are any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CtState(pub(crate) u32);

impl CtState {
    /// Of a connection that has seen packets both ways.
    pub const ESTABLISHED: Self = Self(1 << 1);
    /// The first of a connection that belongs to another one.
    pub const RELATED: Self = Self(1 << 2);
}

impl BitOr for CtState {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What has been done to a packet's connection (`enum ip_conntrack_status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CtStatus(pub(crate) u32);

impl CtStatus {
    /// Its destination was translated.
    pub const DST_NAT: Self = Self(1 << 5);
}

/// Flags of a TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpFlags(pub(crate) u8);

impl TcpFlags {
    /// Opens a connection.
    pub const SYN: Self = Self(1 << 1);
    /// Ends a connection at once.
    pub const RST: Self = Self(1 << 2);
}

impl BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Which address of the packet is looked up in the routing table (`enum nft_fib_flags`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FibFlags(pub(crate) u32);

impl FibFlags {
    /// The destination.
    pub const DADDR: Self = Self(1 << 1);
}

/// What kind of route an address has (`RTN_*` of `linux/rtnetlink.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum RouteType {
    /// It is one of the host's own.
    Local = 2,
}

/// What the sender of a rejected packet is told (`enum nft_reject_inet_code`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum IcmpxCode {
    /// That it is forbidden.
    AdminProhibited = 3,
}
