use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    num::NonZeroU16,
    time::SystemTime,
};

use ipnet::IpNet;
use overlayd_core::keys::{PresharedKey, PublicKey};

use super::{
    context::TunnelContext,
    cookie::CookieJar,
    initiation::Timestamp,
    keypair::{Keypair, PendingHandshake},
    time::SteadyTime,
    timers::PeerTimers,
};

/// Packets that wait for a handshake with one peer, at most.
pub(crate) const MOST_STAGED: usize = 128;

/// A peer of a device.
pub(crate) struct Peer {
    pub(crate) key: PublicKey,
    pub(crate) psk: Option<PresharedKey>,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) keepalive: Option<NonZeroU16>,
    pub(crate) allowed_ips: BTreeSet<IpNet>,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) last_handshake: Option<SystemTime>,
    /// Time stamp of the last initiation that was answered; kept as long as the peer.
    pub(crate) last_timestamp: Timestamp,
    pub(crate) last_answered: Option<SteadyTime>,
    pub(crate) timers: PeerTimers,
    /// Absent until the peer is spoken to, so that a thousand silent peers weigh little.
    pub(crate) sessions: Option<Box<PeerSessions>>,
}

/// Sessions, handshake and waiting packets of a peer that is, or was, spoken to.
#[derive(Default)]
pub(crate) struct PeerSessions {
    /// What we send on.
    pub(crate) current: Option<Keypair>,
    /// What was current before: late packets still arrive on it.
    pub(crate) previous: Option<Keypair>,
    /// The answer to the peer's initiation; current once the peer has used it.
    pub(crate) next: Option<Keypair>,
    /// Our own initiation that waits for an answer.
    pub(crate) pending: Option<PendingHandshake>,
    /// Packets that wait for a session.
    pub(crate) staged: VecDeque<Vec<u8>>,
    pub(crate) cookies: CookieJar,
}

impl Peer {
    pub(crate) fn new(key: PublicKey) -> Self {
        Self {
            key,
            psk: None,
            endpoint: None,
            keepalive: None,
            allowed_ips: BTreeSet::new(),
            rx_bytes: 0,
            tx_bytes: 0,
            last_handshake: None,
            last_timestamp: [0; 12],
            last_answered: None,
            timers: PeerTimers::default(),
            sessions: None,
        }
    }

    pub(crate) fn sessions(&mut self) -> &mut PeerSessions {
        self.sessions.get_or_insert_default()
    }

    /// Wipes all sessions and what waits for one.
    pub(crate) fn drop_sessions(&mut self, context: &mut TunnelContext) {
        self.drop_staged(context);
        let Some(sessions) = self.sessions.take() else { return };
        // Taken apart, so that a session that is added to the struct cannot be forgotten here.
        let PeerSessions { current, previous, next, pending, .. } = *sessions;
        for keypair in [current, previous, next].into_iter().flatten() {
            keypair.retire(&mut context.indices);
        }
        if let Some(pending) = pending {
            context.indices.release(pending.index);
        }
    }

    /// Forgets the packets that wait for a session; returns how many there were.
    pub(crate) fn drop_staged(&mut self, context: &mut TunnelContext) -> usize {
        let Some(sessions) = &mut self.sessions else { return 0 };
        let dropped = sessions.staged.len();
        context.staged -= dropped;
        sessions.staged.clear();
        dropped
    }

    /// Notes that the peer is, at this moment, reachable at `from`.
    pub(crate) fn roam(&mut self, from: SocketAddr) {
        if self.endpoint != Some(from) {
            tracing::debug!(peer = %self.key, endpoint = %from, "the peer has moved");
            self.endpoint = Some(from);
        }
    }
}

impl PeerSessions {
    /// The session whose receiver index is this one.
    pub(crate) fn keypair(&self, index: u32) -> Option<&Keypair> {
        [&self.current, &self.next, &self.previous].into_iter().flatten().find(|keypair| keypair.index == index)
    }

    /// Takes the session that our initiation led to.
    pub(crate) fn install_as_initiator(&mut self, context: &mut TunnelContext, new: Keypair) {
        // A confirmed current session may still carry late packets; an unconfirmed next one is the younger of the two.
        let older = match self.next.take() {
            Some(next) => {
                retire(context, self.current.take());
                Some(next)
            }
            None => self.current.take(),
        };
        retire(context, std::mem::replace(&mut self.previous, older));
        self.current = Some(new);
    }

    /// Takes the session that the peer's initiation led to; it is used once the peer has.
    pub(crate) fn install_as_responder(&mut self, context: &mut TunnelContext, new: Keypair) {
        // An initiation proves nothing about the older sessions: the current one stays until the peer uses the new one.
        retire(context, self.previous.take());
        retire(context, self.next.replace(new));
    }

    /// The peer has used the session `index`; `true` when it becomes the current one by that.
    pub(crate) fn confirm(&mut self, context: &mut TunnelContext, index: u32) -> bool {
        if self.next.as_ref().is_none_or(|next| next.index != index) {
            return false;
        }
        // The one before is kept for messages that were under way.
        let next = self.next.take();
        let before = std::mem::replace(&mut self.current, next);
        retire(context, std::mem::replace(&mut self.previous, before));
        true
    }
}

fn retire(context: &mut TunnelContext, keypair: Option<Keypair>) {
    if let Some(keypair) = keypair {
        keypair.retire(&mut context.indices);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_small() {
        assert!(size_of::<Peer>() <= 512, "{} bytes", size_of::<Peer>());
    }
}
