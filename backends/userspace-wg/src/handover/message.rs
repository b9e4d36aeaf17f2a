//! What two processes say to each other while a device goes from one to the other: the first byte is the kind.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// What one message says. The successor sends the first two, the older process the others.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HandoverMessage<'a> {
    /// The successor is there and handles what belongs to no session of the older process.
    Attached,
    /// The successor has the sessions it needs and wants to read the interface.
    GiveTun,
    /// Some peers, as [`peer_record::read`](super::peer_record::read) reads them.
    Peers(&'a [u8]),
    /// There are no more peers.
    AllPeers,
    /// A datagram for the successor.
    Datagram(SocketAddr, &'a [u8]),
    /// A packet for the successor to send.
    Packet(&'a [u8]),
    /// The older process reads the interface no longer.
    TunGiven,
    /// The older process reads nothing any more.
    Farewell,
}

impl<'a> HandoverMessage<'a> {
    /// The first byte. Both processes may be of different releases, so a number keeps its meaning for ever.
    pub(super) fn kind(&self) -> u8 {
        match self {
            Self::Attached => 1,
            Self::GiveTun => 2,
            Self::Peers(_) => 3,
            Self::AllPeers => 4,
            Self::Datagram(..) => 5,
            Self::Packet(_) => 6,
            Self::TunGiven => 7,
            Self::Farewell => 8,
        }
    }

    /// The address that follows the kind, where there is one.
    pub(super) fn address(&self) -> Vec<u8> {
        match self {
            Self::Datagram(from, _) => address_bytes(*from),
            _ => Vec::new(),
        }
    }

    /// The rest of the message.
    pub(super) fn body(&self) -> &'a [u8] {
        match self {
            Self::Peers(text) => text,
            Self::Datagram(_, datagram) => datagram,
            Self::Packet(packet) => packet,
            Self::Attached | Self::GiveTun | Self::AllPeers | Self::TunGiven | Self::Farewell => &[],
        }
    }

    /// Reads a message; `None` when it is of no known kind or cut short.
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let (kind, body) = message.split_first()?;
        Some(match kind {
            1 => Self::Attached,
            2 => Self::GiveTun,
            3 => Self::Peers(body),
            4 => Self::AllPeers,
            5 => {
                let (from, datagram) = parse_address(body)?;
                Self::Datagram(from, datagram)
            }
            6 => Self::Packet(body),
            7 => Self::TunGiven,
            8 => Self::Farewell,
            _ => return None,
        })
    }
}

/// Port, then the length of the address in bytes, then the address; IPv6 ends with the scope, which a link-local
/// address means nothing without.
fn address_bytes(address: SocketAddr) -> Vec<u8> {
    let mut bytes = address.port().to_be_bytes().to_vec();
    match address {
        SocketAddr::V4(v4) => {
            bytes.push(4);
            bytes.extend(v4.ip().octets());
        }
        SocketAddr::V6(v6) => {
            bytes.push(16);
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_be_bytes());
        }
    }
    bytes
}

fn parse_address(bytes: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (port, rest) = bytes.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match rest.split_first()? {
        (4, rest) => {
            let (ip, rest) = rest.split_first_chunk::<4>()?;
            Some((SocketAddr::new(IpAddr::from(*ip), port), rest))
        }
        (16, rest) => {
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            let (scope, rest) = rest.split_first_chunk::<4>()?;
            Some((SocketAddrV6::new((*ip).into(), port, 0, u32::from_be_bytes(*scope)).into(), rest))
        }
        _ => None,
    }
}
