use std::time::Duration;

use super::{
    cookie::CookieChecker,
    deadlines::DeadlineQueue,
    drops::DropCounts,
    handover::HandoverState,
    index::IndexTable,
    keypair::DeviceIdentity,
    load::{HandshakeLimits, HandshakeLoad},
    peer::{Peer, PeerId},
    time::SteadyTime,
};

/// Packets that wait for a handshake with any peer of a device, at most.
pub(crate) const MOST_STAGED_IN_ALL: usize = 4096;

/// What a device's peers share.
pub(crate) struct TunnelContext {
    pub(crate) identity: DeviceIdentity,
    pub(crate) checker: CookieChecker,
    pub(crate) load: HandshakeLoad,
    pub(crate) indices: IndexTable,
    pub(crate) deadlines: DeadlineQueue,
    pub(crate) drops: DropCounts,
    pub(crate) mtu: usize,
    /// Packets that wait for a handshake, over all peers.
    pub(crate) staged: usize,
    /// Present while the engine of another process is about to follow.
    pub(crate) handover: Option<HandoverState>,
}

impl TunnelContext {
    pub(crate) fn new(private: [u8; 32], mtu: u16, limits: HandshakeLimits) -> Self {
        let identity = DeviceIdentity::new(private);
        let checker = CookieChecker::new(identity.public.as_bytes());
        Self {
            identity,
            checker,
            load: HandshakeLoad::new(limits),
            indices: IndexTable::default(),
            deadlines: DeadlineQueue::default(),
            drops: DropCounts::default(),
            mtu: mtu.into(),
            staged: 0,
            handover: None,
        }
    }

    /// Makes sure that the peer is woken for its first deadline.
    pub(crate) fn watch(&mut self, id: PeerId, peer: &mut Peer) {
        let Some(next) = peer.timers.next() else { return };
        if peer.queued.is_none_or(|queued| next < queued) {
            peer.queued = Some(next);
            self.deadlines.add(next, id);
        }
    }

    /// The peer was woken by the entry at `at`; a later one of the same peer may still be queued.
    pub(crate) fn woken(peer: &mut Peer, at: SteadyTime) {
        if peer.queued == Some(at) {
            peer.queued = None;
        }
    }
}

/// Up to a third of a second, so that two sides do not stay in step. It is asked for with every packet that is the
/// answer to another one, so it is no call of the system's.
pub(crate) fn jitter() -> Duration {
    Duration::from_millis(fastrand::u64(..334))
}
