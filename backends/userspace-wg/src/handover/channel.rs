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

use crate::noise::{Endpoint, Known, PeerConfig};

/// Largest message: a datagram with its address.
const LARGEST: usize = 65_536 + 64;
/// How long a message waits for room; the other process takes them as fast as it can.
const SEND_PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Peers in one message.
const PEERS: usize = 32;

/// One end of the socket pair of a device.
#[derive(Debug)]
pub(crate) struct Wire(OwnedFd);

/// What one message says. The successor sends the first two, the older process the others.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// The successor is there and handles what is for no session of the older process.
    Attached,
    /// The successor has the sessions it needs and wants to read the interface.
    GiveTun,
    /// Some peers, as [`peers_of`] reads them.
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
pub(crate) enum Heard<'a> {
    Said(Said<'a>),
    /// The time is over.
    Nothing,
    /// The other process is gone.
    End,
}

impl Wire {
    /// Both ends.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(ours), theirs))
    }

    /// Memory for [`Wire::hear`].
    pub(crate) fn buffer() -> Zeroizing<Vec<u8>> {
        Zeroizing::new(vec![0; LARGEST])
    }

    /// Sends one message, waiting a moment for room.
    pub(crate) fn say(&self, what: &Said<'_>) -> io::Result<()> {
        let (kind, address, body): (u8, Vec<u8>, &[u8]) = match what {
            Said::Attached => (1, Vec::new(), &[]),
            Said::GiveTun => (2, Vec::new(), &[]),
            Said::Peers(text) => (3, Vec::new(), text),
            Said::AllPeers => (4, Vec::new(), &[]),
            Said::Datagram(from, datagram) => (5, address_bytes(*from), datagram),
            Said::Packet(packet) => (6, Vec::new(), packet),
            Said::TunGiven => (7, Vec::new(), &[]),
            Said::Farewell => (8, Vec::new(), &[]),
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
    pub(crate) fn hear<'a>(&self, buffer: &'a mut [u8], wait: Option<Duration>) -> io::Result<Heard<'a>> {
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], wait.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(Heard::Nothing),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let len = match rustix::net::recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(Heard::End),
            Ok((_, len)) => len,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Heard::Nothing),
            Err(errno) => return Err(errno.into()),
        };
        let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "the other process says what makes no sense");
        parse(&buffer[..len]).map(Heard::Said).ok_or_else(unreadable)
    }

    /// Sends all peers and says that these were all.
    pub(crate) fn say_peers(&self, peers: &[Known]) -> io::Result<()> {
        for some in peers.chunks(PEERS) {
            let texts: Vec<Peer> = some.iter().map(Peer::from).collect();
            self.say(&Said::Peers(&Zeroizing::new(serde_json::to_vec(&texts)?)))?;
        }
        self.say(&Said::AllPeers)
    }

    /// Ends the conversation: both sides hear the end.
    pub(crate) fn hang_up(&self) {
        // The other process may have done so before.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Both);
    }
}

impl From<OwnedFd> for Wire {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn parse(message: &[u8]) -> Option<Said<'_>> {
    let (kind, body) = message.split_first()?;
    Some(match kind {
        1 => Said::Attached,
        2 => Said::GiveTun,
        3 => Said::Peers(body),
        4 => Said::AllPeers,
        5 => {
            let (from, datagram) = address_of(body)?;
            Said::Datagram(from, datagram)
        }
        6 => Said::Packet(body),
        7 => Said::TunGiven,
        8 => Said::Farewell,
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
struct Peer {
    key: [u8; 32],
    psk: Option<[u8; 32]>,
    endpoint: Option<SocketAddr>,
    keepalive: Option<NonZeroU16>,
    allowed_ips: Vec<IpNet>,
    rx_bytes: u64,
    tx_bytes: u64,
    last_handshake: Option<SystemTime>,
    last_timestamp: [u8; 12],
    talks: bool,
}

impl From<&Known> for Peer {
    fn from(known: &Known) -> Self {
        let config = &known.config;
        Self {
            key: *config.key.as_bytes(),
            psk: config.psk.as_ref().map(|psk| *psk.as_bytes()),
            endpoint: match config.endpoint {
                Endpoint::Set(endpoint) => Some(endpoint),
                Endpoint::Keep => None,
            },
            keepalive: config.keepalive,
            allowed_ips: config.allowed_ips.clone(),
            rx_bytes: known.rx_bytes,
            tx_bytes: known.tx_bytes,
            last_handshake: known.last_handshake,
            last_timestamp: known.last_timestamp,
            talks: known.talks,
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.psk.zeroize();
    }
}

/// Reads the peers of one message.
pub(crate) fn peers_of(text: &[u8]) -> io::Result<Vec<Known>> {
    let peers: Vec<Peer> = serde_json::from_slice(text)?;
    let known = |peer: Peer| Known {
        config: PeerConfig {
            key: PublicKey::from_bytes(peer.key),
            psk: peer.psk.map(PresharedKey::from_bytes),
            endpoint: peer.endpoint.map_or(Endpoint::Keep, Endpoint::Set),
            keepalive: peer.keepalive,
            allowed_ips: peer.allowed_ips.clone(),
        },
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
        last_handshake: peer.last_handshake,
        last_timestamp: peer.last_timestamp,
        talks: peer.talks,
    };
    Ok(peers.into_iter().map(known).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_and_the_end_too() {
        let (ours, theirs) = Wire::pair().unwrap();
        let theirs = Wire::from(theirs);
        let (v4, v6) = ("192.0.2.1:51820".parse().unwrap(), "[fe80::1%7]:9".parse().unwrap());
        let all = [
            Said::Attached,
            Said::GiveTun,
            Said::Peers(b"text"),
            Said::AllPeers,
            Said::Datagram(v4, b"four"),
            Said::Datagram(v6, b""),
            Said::Packet(&[7; 65_000]),
            Said::TunGiven,
            Said::Farewell,
        ];
        let mut buffer = Wire::buffer();
        for said in all {
            ours.say(&said).unwrap();
            let Heard::Said(heard) = theirs.hear(&mut buffer, None).unwrap() else { panic!("nothing was heard") };
            assert_eq!(heard, said);
        }
        assert!(matches!(theirs.hear(&mut buffer, Some(Duration::ZERO)).unwrap(), Heard::Nothing));
        drop(ours);
        assert!(matches!(theirs.hear(&mut buffer, None).unwrap(), Heard::End));
        assert!(theirs.say(&Said::Attached).is_err());
    }

    #[test]
    fn peers_arrive_as_they_are_known() {
        let known = Known {
            config: PeerConfig {
                key: PublicKey::from_bytes([3; 32]),
                psk: Some(PresharedKey::from_bytes([4; 32])),
                endpoint: Endpoint::Set("192.0.2.1:1".parse().unwrap()),
                keepalive: NonZeroU16::new(25),
                allowed_ips: vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
            },
            rx_bytes: 1,
            tx_bytes: 2,
            last_handshake: Some(SystemTime::UNIX_EPOCH),
            last_timestamp: [5; 12],
            talks: true,
        };
        let text = serde_json::to_vec(&[Peer::from(&known)]).unwrap();
        let arrived = peers_of(&text).unwrap().remove(0);
        assert!(arrived.config == known.config && arrived.last_timestamp == known.last_timestamp && arrived.talks);
        assert_eq!((arrived.rx_bytes, arrived.tx_bytes, arrived.last_handshake), (1, 2, known.last_handshake));
    }
}
