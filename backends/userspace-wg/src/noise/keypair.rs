use std::{sync::Arc, time::Duration};

use boringtun::{
    noise::{Tunn, TunnResult, rate_limiter::RateLimiter},
    x25519,
};
use overlayd_core::keys::{PresharedKey, PublicKey};

use super::{
    drops::DropReason,
    index::{IndexSeed, IndexTable},
    session::{REJECT_AFTER_MESSAGES, Session, reason},
    time::SteadyTime,
};

/// After as many messages a new handshake is due (whitepaper, section 6.1).
const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// Age at which the initiator asks for a new handshake.
pub(crate) const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// Age at which a session carries nothing any more.
pub(crate) const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);

/// Age at which the initiator asks for a new handshake when it only receives.
pub(crate) const KEEP_FRESH_ON_RECEIVE: Duration = Duration::from_secs(180 - 10 - 5);

/// Who began the handshake of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandshakeRole {
    Initiator,
    Responder,
}

/// What every `Tunn` of a device needs.
pub(crate) struct DeviceIdentity {
    pub(crate) private: x25519::StaticSecret,
    pub(crate) public: x25519::PublicKey,
    /// boringtun's limiter with a limit that is never reached; ours decides before it is asked.
    limiter: Arc<RateLimiter>,
}

impl DeviceIdentity {
    pub(crate) fn new(private: [u8; 32]) -> Self {
        let private = x25519::StaticSecret::from(private);
        let public = x25519::PublicKey::from(&private);
        // boringtun would answer a flood with cookies by its own count. The limit is out of reach, so `HandshakeLoad` decides.
        let limiter = Arc::new(RateLimiter::new(&public, u64::MAX));
        Self { private, public, limiter }
    }

    fn tunn(&self, peer: &PublicKey, psk: Option<&PresharedKey>, seed: IndexSeed) -> Box<Tunn> {
        let peer = x25519::PublicKey::from(*peer.as_bytes());
        let psk = psk.map(|key| *key.as_bytes());
        // No persistent keepalive here: the timers of the peer send it.
        Box::new(Tunn::new(self.private.clone(), peer, psk, None, seed.bits(), Some(self.limiter.clone())))
    }
}

/// A handshake that we began and that waits for its response.
pub(crate) struct PendingHandshake {
    tunn: Box<Tunn>,
    pub(crate) index: u32,
}

impl PendingHandshake {
    /// Writes an initiation into `out`, all but its second MAC; returns the handshake and the message's length.
    pub(crate) fn begin(
        identity: &DeviceIdentity,
        peer: &PublicKey,
        psk: Option<&PresharedKey>,
        seed: IndexSeed,
        out: &mut [u8],
    ) -> Option<(Self, usize)> {
        let mut tunn = identity.tunn(peer, psk, seed);
        // `false`: an initiation that is under way in this object would be repeated; there is none, as the object is new.
        match tunn.format_handshake_initiation(out, false) {
            TunnResult::WriteToNetwork(message) => {
                let len = message.len();
                Some((Self { tunn, index: seed.index() }, len))
            }
            _ => None,
        }
    }

    /// Completes the handshake with the peer's response, and writes a keepalive that confirms it into `out`. A response
    /// that does not fit changes nothing.
    pub(crate) fn complete(&mut self, response: &[u8], out: &mut [u8]) -> Result<usize, DropReason> {
        match self.tunn.decapsulate(None, response, out) {
            TunnResult::WriteToNetwork(keepalive) => Ok(keepalive.len()),
            TunnResult::Err(error) => Err(reason(&error)),
            _ => Err(DropReason::Malformed),
        }
    }

    /// The session of a completed handshake.
    pub(crate) fn into_keypair(self, now: SteadyTime) -> Keypair {
        // One message was sent on it: the keepalive that confirms the handshake.
        Keypair::new(Session::new(self.tunn, self.index, 1), now, HandshakeRole::Initiator)
    }
}

/// A session, and what decides whether it is used.
///
/// boringtun can hold eight sessions and their timers in one `Tunn`, but it then neither lets a pre-shared key
/// change, nor tells which session it uses, nor keeps time on its own. One `Tunn` for each handshake leaves those
/// decisions to us.
pub(crate) struct Keypair {
    pub(crate) session: Arc<Session>,
    pub(crate) index: u32,
    pub(crate) created: SteadyTime,
    pub(crate) role: HandshakeRole,
}

impl Keypair {
    fn new(session: Session, now: SteadyTime, role: HandshakeRole) -> Self {
        Self { index: session.index(), session: Arc::new(session), created: now, role }
    }

    /// Answers an initiation: writes the response into `out`, all but its second MAC.
    pub(crate) fn respond(
        identity: &DeviceIdentity,
        peer: &PublicKey,
        psk: Option<&PresharedKey>,
        seed: IndexSeed,
        now: SteadyTime,
        initiation: &[u8],
        out: &mut [u8],
    ) -> Result<(Self, usize), DropReason> {
        let mut tunn = identity.tunn(peer, psk, seed);
        match tunn.decapsulate(None, initiation, out) {
            TunnResult::WriteToNetwork(response) => {
                let len = response.len();
                Ok((Self::new(Session::new(tunn, seed.index(), 0), now, HandshakeRole::Responder), len))
            }
            TunnResult::Err(error) => Err(reason(&error)),
            _ => Err(DropReason::Malformed),
        }
    }

    /// Whether the session may still carry messages.
    pub(crate) fn is_usable(&self, now: SteadyTime) -> bool {
        // Both limits are the whitepaper's (section 6.1); the counter one leaves room for the window of late messages.
        now.since(self.created) < REJECT_AFTER_TIME && self.session.sent() < REJECT_AFTER_MESSAGES
    }

    /// Whether sending on this session should bring about a new one.
    pub(crate) fn wants_rekey_on_send(&self, now: SteadyTime) -> bool {
        let old = self.role == HandshakeRole::Initiator && now.since(self.created) >= REKEY_AFTER_TIME;
        old || self.session.sent() >= REKEY_AFTER_MESSAGES
    }

    /// Forgets the session's index.
    pub(crate) fn retire(self, indices: &mut IndexTable) {
        indices.release(self.index);
    }
}
