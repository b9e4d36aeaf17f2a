//! The order of the requests of one connection: which may begin while an earlier one is still in flight.

use tokio::sync::oneshot;

use crate::protocol::Request;

/// Held by a request: no later request of its connection begins while it exists. It goes with the request, or before
/// that, when the handler drops it because everything that later requests can depend on has been decided.
#[derive(Debug)]
#[must_use = "dropping the guard lets the next request begin"]
pub struct OrderGuard(#[expect(dead_code, reason = "held to be dropped")] oneshot::Sender<()>);

/// Resolves once the guard is dropped. Nothing is ever sent, so that it resolves with an error.
pub(super) type OrderReleased = oneshot::Receiver<()>;

impl OrderGuard {
    /// A guard, and how its end is noticed.
    pub(super) fn new() -> (Self, OrderReleased) {
        let (guard, released) = oneshot::channel();
        (Self(guard), released)
    }

    /// The guard of a request that no other one follows.
    pub fn alone() -> Self {
        Self::new().0
    }
}

/// Whether the request may begin while earlier ones of its connection wait for their records to become durable, as long
/// as those may overlap as well. Each is about one peer or one name, and sets up nothing that a later one could need.
pub(super) fn may_overlap(request: &Request) -> bool {
    // A group commit makes many such records durable with one write to the disk, if they may wait for it together.
    matches!(
        request,
        Request::AddPeer { .. }
            | Request::RemovePeer { .. }
            | Request::AddAllowedIp { .. }
            | Request::RemoveAllowedIp { .. }
            | Request::RegisterDns { .. }
            | Request::UnregisterDns { .. }
    )
}
