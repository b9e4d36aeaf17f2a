use std::{sync::Arc, time::Duration};

use boringtun::{
    noise::{Tunn, TunnResult, rate_limiter::RateLimiter},
    x25519,
};
use overlayd_core::keys::{PresharedKey, PublicKey};

use super::{
    drops::DropReason,
    index::{IndexSeed, Indices},
    session::{REJECT_AFTER_MESSAGES, Session, reason},
    time::Moment,
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
        Keypair::new(Session::new(self.tunnel, self.index, 1), now, Role::Initiator)
    }
}

/// A session, and what decides whether it is used.
///
/// The library can hold eight sessions and their timers in one object, but it then neither lets a pre-shared key
/// change, nor tells which session it uses, nor keeps time on its own. One object for each handshake leaves those
/// decisions to us.
pub(crate) struct Keypair {
    pub(crate) session: Arc<Session>,
    pub(crate) index: u32,
    pub(crate) created: Moment,
    pub(crate) role: Role,
}

impl Keypair {
    fn new(session: Session, now: Moment, role: Role) -> Self {
        Self { index: session.index(), session: Arc::new(session), created: now, role }
    }

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
                Ok((Self::new(Session::new(tunnel, seed.index(), 0), now, Role::Responder), len))
            }
            TunnResult::Err(error) => Err(reason(&error)),
            _ => Err(DropReason::Malformed),
        }
    }

    /// Whether the session may still carry messages.
    pub(crate) fn is_usable(&self, now: Moment) -> bool {
        now.since(self.created) < REJECT_AFTER_TIME && self.session.sent() < REJECT_AFTER_MESSAGES
    }

    /// Whether sending on this session should bring about a new one.
    pub(crate) fn wants_rekey_on_send(&self, now: Moment) -> bool {
        let old = self.role == Role::Initiator && now.since(self.created) >= REKEY_AFTER_TIME;
        old || self.session.sent() >= REKEY_AFTER_MESSAGES
    }

    /// Forgets the session's index.
    pub(crate) fn retire(self, indices: &mut Indices) {
        indices.release(self.index);
    }
}
