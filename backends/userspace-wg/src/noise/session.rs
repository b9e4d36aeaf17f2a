use std::{
    net::IpAddr,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use boringtun::noise::{Tunn, TunnResult, errors::WireGuardError};
use overlayd_core::sync::lock;

use super::drops::DropReason;
use crate::datagram::{DATA_OVERHEAD, MessageHeader};

/// After as many messages a session carries nothing any more, long before a nonce could repeat.
pub(crate) const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// The keys of a session: one `Tunn` of boringtun that went through one handshake.
///
/// It can be held on to and used without the tunnel's lock. boringtun wants its object exclusively for each message, so
/// there is a lock in here, held for as long as one message takes.
pub(crate) struct Session {
    tunn: Mutex<Box<Tunn>>,
    index: u32,
    sent: AtomicU64,
}

/// What a transport message held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OpenedMessage {
    /// Nothing: a keepalive.
    Keepalive,
    /// An IP packet, at the start of the output.
    Packet { len: usize, source: IpAddr },
    /// Genuine, but no IP packet.
    Garbage,
}

impl Session {
    pub(super) fn new(tunn: Box<Tunn>, index: u32, sent: u64) -> Self {
        Self { tunn: Mutex::new(tunn), index, sent: sent.into() }
    }

    /// Our index of the session.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Messages sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Encrypts `packet`, which is padded already, into `out`; returns the message's length.
    pub(crate) fn seal(&self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        match self.tunn().encapsulate(packet, out) {
            TunnResult::WriteToNetwork(message) if message.len() == packet.len() + DATA_OVERHEAD => {
                let counter = u64::from_le_bytes(message[8..16].try_into().ok()?);
                let len = message.len();
                // Two threads may seal at once and store in the other order; the highest counter is what the limits are about.
                self.sent.fetch_max(counter.saturating_add(1), Ordering::Relaxed);
                (counter < REJECT_AFTER_MESSAGES).then_some(len)
            }
            _ => None,
        }
    }

    /// Decrypts a transport message into `out`, which is at least as long. The window of accepted counters is the
    /// library's (the last 1,024).
    pub(crate) fn open(&self, message: &[u8], out: &mut [u8]) -> Result<OpenedMessage, DropReason> {
        // Checked before decryption: boringtun knows no such limit, and a nonce near the end of the range must not be accepted.
        match MessageHeader::parse(message) {
            Some(MessageHeader::Data { counter, .. }) if counter < REJECT_AFTER_MESSAGES => {}
            Some(MessageHeader::Data { .. }) => return Err(DropReason::Expired),
            _ => return Err(DropReason::Malformed),
        }
        match self.tunn().decapsulate(None, message, out) {
            TunnResult::Done => Ok(OpenedMessage::Keepalive),
            TunnResult::WriteToTunnelV4(packet, source) => {
                Ok(OpenedMessage::Packet { len: packet.len(), source: source.into() })
            }
            TunnResult::WriteToTunnelV6(packet, source) => {
                Ok(OpenedMessage::Packet { len: packet.len(), source: source.into() })
            }
            // The header was parsed before, so this is said of the decrypted content.
            TunnResult::Err(WireGuardError::InvalidPacket) => Ok(OpenedMessage::Garbage),
            TunnResult::Err(error) => Err(reason(&error)),
            TunnResult::WriteToNetwork(_) => Err(DropReason::Malformed),
        }
    }

    /// A thread that panicked with it in hand has ended its device.
    fn tunn(&self) -> MutexGuard<'_, Box<Tunn>> {
        lock(&self.tunn)
    }

    /// Pretends that `sent` messages were sent.
    #[cfg(test)]
    pub(crate) fn pretend_sent(&self, sent: u64) {
        self.sent.store(sent, Ordering::Relaxed);
    }
}

/// Why boringtun refused a message.
pub(super) fn reason(error: &WireGuardError) -> DropReason {
    match error {
        WireGuardError::InvalidCounter
        | WireGuardError::DuplicateCounter
        | WireGuardError::WrongTai64nTimestamp
        | WireGuardError::InvalidTai64nTimestamp => DropReason::Replay,
        WireGuardError::InvalidMac => DropReason::BadMac,
        WireGuardError::WrongIndex | WireGuardError::NoCurrentSession => DropReason::UnknownIndex,
        WireGuardError::InvalidPacket | WireGuardError::IncorrectPacketLength | WireGuardError::WrongPacketType => {
            DropReason::Malformed
        }
        _ => DropReason::BadAuth,
    }
}
