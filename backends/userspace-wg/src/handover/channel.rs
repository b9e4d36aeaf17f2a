//! What two processes say to each other while a device goes from one to the other.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use overlayd_core::keys::{PresharedKey, PublicKey};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType, sendmsg,
        socketpair,
    },
};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::noise::{EndpointUpdate, ExportedPeer, PeerConfig};

/// Largest message: a datagram with its address.
const LARGEST: usize = 65_536 + 64;
/// How long a message waits for room; the other process takes them as fast as it can.
const SEND_PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Peers in one message.
const PEERS: usize = 32;

/// One end of the socket pair of a device.
#[derive(Debug)]
pub(crate) struct HandoverChannel(OwnedFd);

/// What one message says. The successor sends the first two, the older process the others.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HandoverMessage<'a> {
    /// The successor is there and handles what is for no session of the older process.
    Attached,
    /// The successor has the sessions it needs and wants to read the interface.
    GiveTun,
    /// Some peers, as [`parse_peers`] reads them.
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

/// What a wait for a message gave.
pub(crate) enum ChannelEvent<'a> {
    HandoverMessage(HandoverMessage<'a>),
    /// The time is over.
    Nothing,
    /// The other process is gone.
    HandoverEnd,
}

impl HandoverChannel {
    /// Both ends.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(ours), theirs))
    }

    /// Memory for [`HandoverChannel::receive`].
    pub(crate) fn buffer() -> Zeroizing<Vec<u8>> {
        Zeroizing::new(vec![0; LARGEST])
    }

    /// Sends one message, waiting a moment for room.
    pub(crate) fn send(&self, what: &HandoverMessage<'_>) -> io::Result<()> {
        let (kind, address, body): (u8, Vec<u8>, &[u8]) = match what {
            HandoverMessage::Attached => (1, Vec::new(), &[]),
            HandoverMessage::GiveTun => (2, Vec::new(), &[]),
            HandoverMessage::Peers(text) => (3, Vec::new(), text),
            HandoverMessage::AllPeers => (4, Vec::new(), &[]),
            HandoverMessage::Datagram(from, datagram) => (5, address_bytes(*from), datagram),
            HandoverMessage::Packet(packet) => (6, Vec::new(), packet),
            HandoverMessage::TunGiven => (7, Vec::new(), &[]),
            HandoverMessage::Farewell => (8, Vec::new(), &[]),
        };
        let parts = [IoSlice::new(std::slice::from_ref(&kind)), IoSlice::new(&address), IoSlice::new(body)];
        for _ in 0..2 {
            match sendmsg(&self.0, &parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL) {
                Err(Errno::AGAIN) => {
                    let mut room = [PollFd::new(&self.0, PollFlags::OUT)];
                    retry_on_intr(|| poll(&mut room, Some(&SEND_PATIENCE)))?;
                }
                outcome => return Ok(outcome.map(drop)?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Waits this long for one message.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8], wait: Option<Duration>) -> io::Result<ChannelEvent<'a>> {
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], wait.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(ChannelEvent::Nothing),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let len = match rustix::net::recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(ChannelEvent::HandoverEnd),
            Ok((_, len)) => len,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(ChannelEvent::Nothing),
            Err(errno) => return Err(errno.into()),
        };
        let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "the other process says what makes no sense");
        parse(&buffer[..len]).map(ChannelEvent::HandoverMessage).ok_or_else(unreadable)
    }

    /// Sends all peers and says that these were all.
    pub(crate) fn send_peers(&self, peers: &[ExportedPeer]) -> io::Result<()> {
        for some in peers.chunks(PEERS) {
            let texts: Vec<PeerRecord> = some.iter().map(PeerRecord::from).collect();
            self.send(&HandoverMessage::Peers(&Zeroizing::new(serde_json::to_vec(&texts)?)))?;
        }
        self.send(&HandoverMessage::AllPeers)
    }

    /// Ends the conversation: both sides hear the end.
    pub(crate) fn drop_sessions(&self) {
        // The other process may have done so before.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Both);
    }
}

impl From<OwnedFd> for HandoverChannel {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl AsFd for HandoverChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn parse(message: &[u8]) -> Option<HandoverMessage<'_>> {
    let (kind, body) = message.split_first()?;
    Some(match kind {
        1 => HandoverMessage::Attached,
        2 => HandoverMessage::GiveTun,
        3 => HandoverMessage::Peers(body),
        4 => HandoverMessage::AllPeers,
        5 => {
            let (from, datagram) = address_of(body)?;
            HandoverMessage::Datagram(from, datagram)
        }
        6 => HandoverMessage::Packet(body),
        7 => HandoverMessage::TunGiven,
        8 => HandoverMessage::Farewell,
        _ => return None,
    })
}

/// Port, then 4 or 16 bytes of the address behind their number; a scope is the host's affair and comes last.
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

fn address_of(bytes: &[u8]) -> Option<(SocketAddr, &[u8])> {
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
            let address = std::net::SocketAddrV6::new((*ip).into(), port, 0, u32::from_be_bytes(*scope));
            Some((address.into(), rest))
        }
        _ => None,
    }
}

/// A peer in transit.
#[derive(Serialize, Deserialize)]
struct PeerRecord {
    key: [u8; 32],
    psk: Option<[u8; 32]>,
    endpoint: Option<SocketAddr>,
    keepalive: Option<NonZeroU16>,
    allowed_ips: Vec<IpNet>,
    rx_bytes: u64,
    tx_bytes: u64,
    last_handshake: Option<SystemTime>,
    last_timestamp: [u8; 12],
    has_session: bool,
}

impl From<&ExportedPeer> for PeerRecord {
    fn from(exported: &ExportedPeer) -> Self {
        let config = &exported.config;
        Self {
            key: *config.key.as_bytes(),
            psk: config.psk.as_ref().map(|psk| *psk.as_bytes()),
            endpoint: match config.endpoint {
                EndpointUpdate::Set(endpoint) => Some(endpoint),
                EndpointUpdate::Keep => None,
            },
            keepalive: config.keepalive,
            allowed_ips: config.allowed_ips.clone(),
            rx_bytes: exported.rx_bytes,
            tx_bytes: exported.tx_bytes,
            last_handshake: exported.last_handshake,
            last_timestamp: exported.last_timestamp,
            has_session: exported.has_session,
        }
    }
}

impl Drop for PeerRecord {
    fn drop(&mut self) {
        self.psk.zeroize();
    }
}

/// Reads the peers of one message.
pub(crate) fn parse_peers(text: &[u8]) -> io::Result<Vec<ExportedPeer>> {
    let peers: Vec<PeerRecord> = serde_json::from_slice(text)?;
    let exported = |peer: PeerRecord| ExportedPeer {
        config: PeerConfig {
            key: PublicKey::from_bytes(peer.key),
            psk: peer.psk.map(PresharedKey::from_bytes),
            endpoint: peer.endpoint.map_or(EndpointUpdate::Keep, EndpointUpdate::Set),
            keepalive: peer.keepalive,
            allowed_ips: peer.allowed_ips.clone(),
        },
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
        last_handshake: peer.last_handshake,
        last_timestamp: peer.last_timestamp,
        has_session: peer.has_session,
    };
    Ok(peers.into_iter().map(exported).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_and_the_end_too() {
        let (ours, theirs) = HandoverChannel::pair().unwrap();
        let theirs = HandoverChannel::from(theirs);
        let (v4, v6) = ("192.0.2.1:51820".parse().unwrap(), "[fe80::1%7]:9".parse().unwrap());
        let all = [
            HandoverMessage::Attached,
            HandoverMessage::GiveTun,
            HandoverMessage::Peers(b"text"),
            HandoverMessage::AllPeers,
            HandoverMessage::Datagram(v4, b"four"),
            HandoverMessage::Datagram(v6, b""),
            HandoverMessage::Packet(&[7; 65_000]),
            HandoverMessage::TunGiven,
            HandoverMessage::Farewell,
        ];
        let mut buffer = HandoverChannel::buffer();
        for said in all {
            ours.send(&said).unwrap();
            let ChannelEvent::HandoverMessage(heard) = theirs.receive(&mut buffer, None).unwrap() else {
                panic!("nothing was heard")
            };
            assert_eq!(heard, said);
        }
        assert!(matches!(theirs.receive(&mut buffer, Some(Duration::ZERO)).unwrap(), ChannelEvent::Nothing));
        drop(ours);
        assert!(matches!(theirs.receive(&mut buffer, None).unwrap(), ChannelEvent::HandoverEnd));
        assert!(theirs.send(&HandoverMessage::Attached).is_err());
    }

    #[test]
    fn peers_arrive_as_they_are_known() {
        let exported = ExportedPeer {
            config: PeerConfig {
                key: PublicKey::from_bytes([3; 32]),
                psk: Some(PresharedKey::from_bytes([4; 32])),
                endpoint: EndpointUpdate::Set("192.0.2.1:1".parse().unwrap()),
                keepalive: NonZeroU16::new(25),
                allowed_ips: vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
            },
            rx_bytes: 1,
            tx_bytes: 2,
            last_handshake: Some(SystemTime::UNIX_EPOCH),
            last_timestamp: [5; 12],
            has_session: true,
        };
        let text = serde_json::to_vec(&[PeerRecord::from(&exported)]).unwrap();
        let arrived = parse_peers(&text).unwrap().remove(0);
        assert!(
            arrived.config == exported.config
                && arrived.last_timestamp == exported.last_timestamp
                && arrived.has_session
        );
        assert_eq!((arrived.rx_bytes, arrived.tx_bytes, arrived.last_handshake), (1, 2, exported.last_handshake));
    }
}
