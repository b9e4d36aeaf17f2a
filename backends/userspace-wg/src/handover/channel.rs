//! One end of the socket pair by which two processes speak while a device goes from one to the other.

use std::{
    io::{self, IoSlice},
    os::fd::OwnedFd,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType, sendmsg,
        socketpair,
    },
};
use zeroize::Zeroizing;

use super::{message::HandoverMessage, peer_record};
use crate::{
    device::ForwardTraffic,
    noise::{ExportedPeer, SuccessorTraffic},
};

/// Largest message: a datagram with its address.
const LARGEST: usize = 65_536 + 64;
/// How long a message waits for room; the other process takes them as fast as it can.
const SEND_PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Peers in one message.
const PEERS: usize = 32;

/// One end of the socket pair of a device.
#[derive(Debug)]
pub(crate) struct HandoverChannel(OwnedFd);

/// What a wait for a message gave.
pub(super) enum ChannelEvent<'a> {
    /// A message of the other process.
    Message(HandoverMessage<'a>),
    /// The time is over.
    Timeout,
    /// The other process is gone.
    Closed,
}

impl HandoverChannel {
    /// Both ends; the second one is for the other process.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        // SEQPACKET keeps the boundaries of messages and reports the end of the other process, which DGRAM does not.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (own, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(own), other))
    }

    /// Memory for [`HandoverChannel::receive`]; wiped when it goes, as pre-shared keys pass through it.
    pub(super) fn buffer() -> Zeroizing<Vec<u8>> {
        Zeroizing::new(vec![0; LARGEST])
    }

    /// Sends one message, waiting a moment for room.
    pub(super) fn send(&self, message: &HandoverMessage<'_>) -> io::Result<()> {
        let kind = message.kind();
        let address = message.address();
        let parts = [IoSlice::new(std::slice::from_ref(&kind)), IoSlice::new(&address), IoSlice::new(message.body())];
        for _ in 0..2 {
            match sendmsg(&self.0, &parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL) {
                // Waiting once only: the thread that sends carries packets as well, and they must not wait for a
                // successor that is stuck.
                Err(Errno::AGAIN) => {
                    let mut room = [PollFd::new(&self.0, PollFlags::OUT)];
                    retry_on_intr(|| poll(&mut room, Some(&SEND_PATIENCE)))?;
                }
                outcome => return Ok(outcome.map(drop)?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Waits this long for one message; for ever without a limit.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8], wait: Option<Duration>) -> io::Result<ChannelEvent<'a>> {
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], wait.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(ChannelEvent::Timeout),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let len = match rustix::net::recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT) {
            // A process that dies with unread messages resets the connection.
            Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(ChannelEvent::Closed),
            Ok((_, len)) => len,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(ChannelEvent::Timeout),
            Err(errno) => return Err(errno.into()),
        };
        match HandoverMessage::parse(&buffer[..len]) {
            Some(message) => Ok(ChannelEvent::Message(message)),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "the other process sent an unknown message")),
        }
    }

    /// Sends all peers and says that these were all.
    pub(super) fn send_peers(&self, peers: &[ExportedPeer]) -> io::Result<()> {
        for some in peers.chunks(PEERS) {
            self.send(&HandoverMessage::Peers(&peer_record::write(some)?))?;
        }
        self.send(&HandoverMessage::AllPeers)
    }

    /// Ends the conversation: both sides see the end.
    pub(super) fn close(&self) {
        // The other process may have done so before.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Both);
    }
}

impl From<OwnedFd> for HandoverChannel {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl ForwardTraffic for HandoverChannel {
    fn forward(&self, item: &SuccessorTraffic) -> io::Result<()> {
        match item {
            SuccessorTraffic::Datagram(from, datagram) => self.send(&HandoverMessage::Datagram(*from, datagram)),
            SuccessorTraffic::Packet(packet) => self.send(&HandoverMessage::Packet(packet)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_received_and_the_end_is_seen() {
        let (own, other) = HandoverChannel::pair().unwrap();
        let other = HandoverChannel::from(other);
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
        for message in all {
            own.send(&message).unwrap();
            let ChannelEvent::Message(received) = other.receive(&mut buffer, None).unwrap() else {
                panic!("nothing was received")
            };
            assert_eq!(received, message);
        }
        assert!(matches!(other.receive(&mut buffer, Some(Duration::ZERO)).unwrap(), ChannelEvent::Timeout));
        drop(own);
        assert!(matches!(other.receive(&mut buffer, None).unwrap(), ChannelEvent::Closed));
        assert!(other.send(&HandoverMessage::Attached).is_err());
    }
}
