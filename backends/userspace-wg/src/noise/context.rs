use std::time::Duration;

use super::{
    cookie::CookieChecker,
    deadlines::DeadlineQueue,
    drops::DropCounts,
    index::IndexTable,
    keypair::DeviceIdentity,
    load::{HandshakeLimits, HandshakeLoad},
    peer_id::PeerId,
    successor::HandoverState,
    timers::PeerTimers,
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
    /// Present while another process takes the device over.
    pub(crate) handover: Option<HandoverState>,
}

impl TunnelContext {
    pub(crate) fn new(private: [u8; 32], mtu: u16, limits: HandshakeLimits) -> Self {
        let identity = DeviceIdentity::new(private);
        // The checker holds hashes of the public key, so it is made anew with each identity.
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

    /// Takes another private key.
    pub(crate) fn set_identity(&mut self, private: [u8; 32]) {
        self.identity = DeviceIdentity::new(private);
        self.checker = CookieChecker::new(self.identity.public.as_bytes());
    }

    /// Makes sure that the peer is woken for the first deadline of its timers.
    pub(crate) fn watch(&mut self, id: PeerId, timers: &mut PeerTimers) {
        if let Some(earlier) = timers.take_unqueued() {
            self.deadlines.add(earlier, id);
        }
    }
}

/// Up to a third of a second, so that two sides that began a handshake at once do not go on doing so.
///
/// Asked for with every packet that answers another one, so it comes from a generator in this process and costs no
/// system call. It is no secret.
pub(crate) fn jitter() -> Duration {
    Duration::from_millis(fastrand::u64(..334))
}
