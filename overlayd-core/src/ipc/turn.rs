use tokio::sync::oneshot;

use crate::protocol::Request;

/// A request's turn among those of its connection: no later one begins while it lasts. It ends with the request, or
/// before that, when the handler drops it because whatever later requests may find has been decided.
#[derive(Debug)]
#[must_use = "dropping a turn lets the next request begin"]
pub struct Turn(#[expect(dead_code, reason = "held to be dropped")] oneshot::Sender<()>);

/// Resolves, if with an error, once the turn is over.
pub(super) type TurnEnd = oneshot::Receiver<()>;

impl Turn {
    /// A turn, and how its end is noticed.
    pub(super) fn new() -> (Self, TurnEnd) {
        let (turn, end) = oneshot::channel();
        (Self(turn), end)
    }

    /// The turn of a request that no other one follows.
    pub fn alone() -> Self {
        Self::new().0
    }
}

/// Whether the request may begin while earlier ones of its connection wait for their records to become durable, as long
/// as those may, too. Each is about one peer or one name, and nothing is set up that a later one could need.
pub(super) fn may_overlap(request: &Request) -> bool {
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
