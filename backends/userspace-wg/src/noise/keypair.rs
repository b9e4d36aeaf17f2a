use std::{net::IpAddr, sync::Arc, time::Duration};

use boringtun::{
    noise::{Tunn, TunnResult, errors::WireGuardError, rate_limiter::RateLimiter},
    x25519,
};
use overlayd_core::keys::{PresharedKey, PublicKey};

use super::{
    drops::DropReason,
    index::{IndexSeed, Indices},
    message::DATA_OVERHEAD,
    moment::Moment,
};

/// After as many messages a new handshake is due (whitepaper, section 6.1).
const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// After as many messages a session carries nothing any more, long before a nonce could repeat.
pub(crate) const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// Age at which the initiator asks for a new handshake.
pub(crate) const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// Age at which a session carries nothing any more.
pub(crate) const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);

/// Age at which the initiator asks for a new handshake when it only receives.
pub(crate) const KEEP_FRESH_ON_RECEIVE: Duration = Duration::from_secs(180 - 10 - 5);

/// Who began the handshake of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Initiator,
    Responder,
}

/// What every tunnel object of a device needs.
pub(crate) struct Identity {
    pub(crate) private: x25519::StaticSecret,
    pub(crate) public: x25519::PublicKey,
    /// The library's limiter with a limit that is never reached; ours decides before it is asked.
    limiter: Arc<RateLimiter>,
}

impl Identity {
    pub(crate) fn new(private: [u8; 32]) -> Self {
        let private = x25519::StaticSecret::from(private);
        let public = x25519::PublicKey::from(&private);
        let limiter = Arc::new(RateLimiter::new(&public, u64::MAX));
        Self { private, public, limiter }
    }

    fn tunnel(&self, peer: &PublicKey, psk: Option<&PresharedKey>, seed: IndexSeed) -> Box<Tunn> {
        let peer = x25519::PublicKey::from(*peer.as_bytes());
        let psk = psk.map(|key| *key.as_bytes());
        Box::new(Tunn::new(self.private.clone(), peer, psk, None, seed.bits(), Some(self.limiter.clone())))
    }
}

/// A handshake that we began and that waits for its response.
pub(crate) struct Pending {
    tunnel: Box<Tunn>,
    pub(crate) index: u32,
}

impl Pending {
    /// Writes an initiation into `out`, all but its second MAC; returns the handshake and the message's length.
    pub(crate) fn begin(
        identity: &Identity,
        peer: &PublicKey,
        psk: Option<&PresharedKey>,
        seed: IndexSeed,
        out: &mut [u8],
    ) -> Option<(Self, usize)> {
        let mut tunnel = identity.tunnel(peer, psk, seed);
        match tunnel.format_handshake_initiation(out, false) {
            TunnResult::WriteToNetwork(message) => {
                let len = message.len();
                Some((Self { tunnel, index: seed.index() }, len))
            }
            _ => None,
        }
    }

    /// Completes the handshake with the peer's response, and writes a keepalive that confirms it into `out`. A response
    /// that does not fit changes nothing.
    pub(crate) fn complete(&mut self, response: &[u8], out: &mut [u8]) -> Result<usize, DropReason> {
        match self.tunnel.decapsulate(None, response, out) {
            TunnResult::WriteToNetwork(keepalive) => Ok(keepalive.len()),
            TunnResult::Err(error) => Err(reason(&error)),
            _ => Err(DropReason::Malformed),
        }
    }

    /// The session of a completed handshake.
    pub(crate) fn into_keypair(self, now: Moment) -> Keypair {
        Keypair { tunnel: self.tunnel, index: self.index, created: now, role: Role::Initiator, sent: 1 }
    }
}

/// A session: one tunnel object of the library that went through one handshake.
///
/// The library can hold eight sessions and their timers in one object, but it then neither lets a pre-shared key
/// change, nor tells which session it uses, nor keeps time on its own. One object for each handshake leaves those
/// decisions to us.
pub(crate) struct Keypair {
    tunnel: Box<Tunn>,
    pub(crate) index: u32,
    pub(crate) created: Moment,
    pub(crate) role: Role,
    sent: u64,
}

/// What a transport message held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// Nothing: a keepalive.
    Keepalive,
    /// An IP packet, at the start of the output.
    Packet { len: usize, source: IpAddr },
    /// Genuine, but no IP packet.
    Garbage,
}

impl Keypair {
    /// Answers an initiation: writes the response into `out`, all but its second MAC.
    pub(crate) fn respond(
        identity: &Identity,
        peer: &PublicKey,
        psk: Option<&PresharedKey>,
        seed: IndexSeed,
        now: Moment,
        initiation: &[u8],
        out: &mut [u8],
    ) -> Result<(Self, usize), DropReason> {
        let mut tunnel = identity.tunnel(peer, psk, seed);
        match tunnel.decapsulate(None, initiation, out) {
            TunnResult::WriteToNetwork(response) => {
                let len = response.len();
                Ok((Self { tunnel, index: seed.index(), created: now, role: Role::Responder, sent: 0 }, len))
            }
            TunnResult::Err(error) => Err(reason(&error)),
            _ => Err(DropReason::Malformed),
        }
    }

    /// Whether the session may still carry messages.
    pub(crate) fn is_usable(&self, now: Moment) -> bool {
        now.since(self.created) < REJECT_AFTER_TIME && self.sent < REJECT_AFTER_MESSAGES
    }

    /// Whether sending on this session should bring about a new one.
    pub(crate) fn wants_rekey_on_send(&self, now: Moment) -> bool {
        let old = self.role == Role::Initiator && now.since(self.created) >= REKEY_AFTER_TIME;
        old || self.sent >= REKEY_AFTER_MESSAGES
    }

    /// Encrypts `packet`, which is padded already, into `out`.
    pub(crate) fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        match self.tunnel.encapsulate(packet, out) {
            TunnResult::WriteToNetwork(message) if message.len() == packet.len() + DATA_OVERHEAD => {
                let counter = u64::from_le_bytes(message[8..16].try_into().ok()?);
                let len = message.len();
                self.sent = counter.saturating_add(1);
                (counter < REJECT_AFTER_MESSAGES).then_some(len)
            }
            _ => None,
        }
    }

    /// Decrypts a transport message into `out`, which is at least as long. The caller has checked its counter against
    /// [`REJECT_AFTER_MESSAGES`]; the window of accepted counters is the library's (the last 1,024).
    pub(crate) fn open(&mut self, message: &[u8], out: &mut [u8]) -> Result<Opened, DropReason> {
        match self.tunnel.decapsulate(None, message, out) {
            TunnResult::Done => Ok(Opened::Keepalive),
            TunnResult::WriteToTunnelV4(packet, source) => {
                Ok(Opened::Packet { len: packet.len(), source: source.into() })
            }
            TunnResult::WriteToTunnelV6(packet, source) => {
                Ok(Opened::Packet { len: packet.len(), source: source.into() })
            }
            // The header was parsed before, so this is said of the decrypted content.
            TunnResult::Err(WireGuardError::InvalidPacket) => Ok(Opened::Garbage),
            TunnResult::Err(error) => Err(reason(&error)),
            TunnResult::WriteToNetwork(_) => Err(DropReason::Malformed),
        }
    }

    /// Forgets the session's index.
    pub(crate) fn retire(self, indices: &mut Indices) {
        indices.release(self.index);
    }

    /// Pretends that `sent` messages were sent.
    #[cfg(test)]
    pub(crate) fn pretend_sent(&mut self, sent: u64) {
        self.sent = sent;
    }
}

fn reason(error: &WireGuardError) -> DropReason {
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
