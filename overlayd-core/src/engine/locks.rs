//! The locks of the engine, and the one order in which a request may take them.
//!
//! Every request that changes something enters through the [`TeardownGate`] and gets a [`Held`]. Each lock of an object
//! borrows the one that was taken before it, and its rank has to be higher: a request that takes locks in another order
//! does not compile. Two requests therefore never wait for each other.

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{
    contract::AttachmentId,
    desired::{PeerId, SHARED_SERVICE},
    sync::KeyedLocks,
};

/// The ranks of the locks, in the order in which they are taken.
mod rank {
    pub(super) const ENTERED: u8 = 0;
    pub(super) const NAME: u8 = 1;
    pub(super) const PEER: u8 = 2;
    pub(super) const OVERLAY: u8 = 3;
    pub(super) const SHARED_BRIDGE: u8 = 4;
    pub(super) const SERVICE: u8 = 5;
    pub(super) const ATTACHMENT: u8 = 6;
    pub(super) const EDGE: u8 = 7;
}

/// Keeps requests out while everything is removed.
#[derive(Debug, Default)]
pub(super) struct TeardownGate(RwLock<()>);

/// A request inside of the gate, which holds no object yet.
pub(super) type Entered<'h> = Held<'h, { rank::ENTERED }>;
/// A registered name is held.
pub(super) type NameHeld<'h> = Held<'h, { rank::NAME }>;
/// A peer is held.
pub(super) type PeerHeld<'h> = Held<'h, { rank::PEER }>;
/// The parameters of the global overlay are held.
pub(super) type OverlayHeld<'h> = Held<'h, { rank::OVERLAY }>;
/// The bridge of the shared services is held, where the service needs it.
pub(super) type SharedBridgeHeld<'h> = Held<'h, { rank::SHARED_BRIDGE }>;
/// A service is held.
pub(super) type ServiceHeld<'h> = Held<'h, { rank::SERVICE }>;
/// An attachment is held.
pub(super) type AttachmentHeld<'h> = Held<'h, { rank::ATTACHMENT }>;
/// An edge peer is held.
pub(super) type EdgeHeld<'h> = Held<'h, { rank::EDGE }>;

/// A lock that a request holds. The next one borrows it, so that it cannot be let go, nor passed over, before that one.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub(super) struct Held<'h, const RANK: u8> {
    _guard: Guard<'h>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "guards are held to be dropped")]
enum Guard<'h> {
    Gate(RwLockReadGuard<'h, ()>),
    Shared(OwnedRwLockReadGuard<()>),
    Exclusive(OwnedRwLockWriteGuard<()>),
    /// The request needs nothing of this rank.
    NotNeeded,
}

impl TeardownGate {
    /// Waits until no teardown is under way, and keeps the next one waiting.
    pub(super) async fn enter(&self) -> Entered<'_> {
        Held { _guard: Guard::Gate(self.0.read().await) }
    }

    /// Waits until every request has left, and lets none in.
    pub(super) async fn exclusive(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().await
    }
}

/// What a lock is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum ObjectKey {
    Name(String),
    Peer(PeerId),
    Overlay,
    Service(String),
    Attachment(AttachmentId),
    Edge(String),
}

/// One lock per object: requests for the same object take turns, requests for different objects do not meet.
#[derive(Debug, Default)]
pub(super) struct ObjectLocks(KeyedLocks<ObjectKey>);

impl ObjectLocks {
    pub(super) async fn name<'h, const BEFORE: u8>(&self, held: &'h mut Held<'_, BEFORE>, name: &str) -> NameHeld<'h> {
        self.exclusive(held, ObjectKey::Name(name.to_owned())).await
    }

    pub(super) async fn peer<'h, const BEFORE: u8>(&self, held: &'h mut Held<'_, BEFORE>, id: &PeerId) -> PeerHeld<'h> {
        self.exclusive(held, ObjectKey::Peer(id.clone())).await
    }

    pub(super) async fn overlay<'h, const BEFORE: u8>(&self, held: &'h mut Held<'_, BEFORE>) -> OverlayHeld<'h> {
        self.exclusive(held, ObjectKey::Overlay).await
    }

    /// Waits for a set-up of the overlay that is under way.
    pub(super) async fn overlay_shared<'h, const BEFORE: u8>(&self, held: &'h mut Held<'_, BEFORE>) -> OverlayHeld<'h> {
        self.shared(held, ObjectKey::Overlay).await
    }

    pub(super) async fn shared_bridge<'h, const BEFORE: u8>(
        &self,
        held: &'h mut Held<'_, BEFORE>,
    ) -> SharedBridgeHeld<'h> {
        // Under the name by which the bridge is on record, so that a pass that looks after that record waits for it.
        self.exclusive(held, ObjectKey::Service(SHARED_SERVICE.into())).await
    }

    /// Stands where a service that has a bridge of its own takes no lock of the shared one.
    pub(super) fn no_shared_bridge<'h>(&self, _held: &'h mut Entered<'_>) -> SharedBridgeHeld<'h> {
        Held { _guard: Guard::NotNeeded }
    }

    /// For a set-up or a teardown of the service.
    pub(super) async fn service<'h, const BEFORE: u8>(
        &self,
        held: &'h mut Held<'_, BEFORE>,
        name: &str,
    ) -> ServiceHeld<'h> {
        self.exclusive(held, ObjectKey::Service(name.to_owned())).await
    }

    /// For work on what belongs to the service, which is neither set up nor torn down at the same time.
    pub(super) async fn service_shared<'h, const BEFORE: u8>(
        &self,
        held: &'h mut Held<'_, BEFORE>,
        name: &str,
    ) -> ServiceHeld<'h> {
        self.shared(held, ObjectKey::Service(name.to_owned())).await
    }

    pub(super) async fn attachment<'h, const BEFORE: u8>(
        &self,
        held: &'h mut Held<'_, BEFORE>,
        id: &AttachmentId,
    ) -> AttachmentHeld<'h> {
        self.exclusive(held, ObjectKey::Attachment(id.clone())).await
    }

    pub(super) async fn edge<'h, const BEFORE: u8>(&self, held: &'h mut Held<'_, BEFORE>, name: &str) -> EdgeHeld<'h> {
        self.exclusive(held, ObjectKey::Edge(name.to_owned())).await
    }

    async fn shared<'h, const BEFORE: u8, const RANK: u8>(
        &self,
        _held: &'h mut Held<'_, BEFORE>,
        key: ObjectKey,
    ) -> Held<'h, RANK> {
        // Checked when the crate is compiled, for each pair of ranks that is used.
        const { assert!(BEFORE < RANK, "a lock is taken after one of a lower rank") };
        Held { _guard: Guard::Shared(self.0.shared(key).await) }
    }

    async fn exclusive<'h, const BEFORE: u8, const RANK: u8>(
        &self,
        _held: &'h mut Held<'_, BEFORE>,
        key: ObjectKey,
    ) -> Held<'h, RANK> {
        const { assert!(BEFORE < RANK, "a lock is taken after one of a lower rank") };
        Held { _guard: Guard::Exclusive(self.0.exclusive(key).await) }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn is_ready(future: std::pin::Pin<&mut impl Future>) -> bool {
        matches!(future.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_))
    }

    #[tokio::test]
    async fn a_teardown_waits_for_the_requests_and_they_for_it() {
        let gate = TeardownGate::default();
        let entered = gate.enter().await;
        let mut teardown = pin!(gate.exclusive());
        assert!(!is_ready(teardown.as_mut()));
        drop(entered);
        let exclusive = teardown.await;
        assert!(!is_ready(pin!(gate.enter())));
        drop(exclusive);
        assert!(is_ready(pin!(gate.enter())));
    }

    #[tokio::test]
    async fn requests_for_the_same_object_take_turns() {
        let gate = TeardownGate::default();
        let locks = ObjectLocks::default();
        let mut first = gate.enter().await;
        let mut second = gate.enter().await;
        let service = locks.service_shared(&mut first, "web").await;
        drop(locks.service_shared(&mut second, "web").await);
        assert!(!is_ready(pin!(locks.service(&mut second, "web"))));
        drop(service);
        assert!(is_ready(pin!(locks.service(&mut second, "web"))));
    }
}
