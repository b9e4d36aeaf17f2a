//! The requests of one connection that have begun and are not answered yet.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use futures_util::{StreamExt, stream::FuturesOrdered};

use super::{order::OrderReleased, reply::OutgoingReply};

/// Most requests of one connection that are in flight at the same time.
const MOST: usize = 512;

/// A request that was executed.
#[derive(Debug)]
pub(super) struct FinishedRequest {
    pub(super) id: u64,
    pub(super) reply: OutgoingReply,
    pub(super) last: LastReply,
}

/// Whether the connection ends with this reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastReply {
    Yes,
    No,
}

/// A request as a future that owns all it needs.
pub(super) type RequestFuture = Pin<Box<dyn Future<Output = FinishedRequest> + Send>>;

/// The requests that have begun and are not answered yet. They are answered in the order in which they began.
#[derive(Default)]
pub(super) struct InFlightRequests {
    running: FuturesOrdered<RequestFuture>,
    /// Ends when the last one that began lets the next begin; `None` when it has.
    held: Option<OrderReleased>,
}

impl InFlightRequests {
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether another request may begin.
    pub(super) fn has_room(&self) -> bool {
        // Bounded, because each holds memory until the store has written it, and a client may pipeline without end.
        self.is_empty() || (self.held.is_none() && self.running.len() < MOST)
    }

    /// Begins a request. One that waits for nothing, with no other before it, is answered at once.
    pub(super) async fn begin(
        &mut self,
        mut request: RequestFuture,
        released: OrderReleased,
    ) -> Option<FinishedRequest> {
        // Most requests end at their first poll. Queueing those would cost a wake of the task for each.
        if self.is_empty()
            && let Poll::Ready(finished) = poll_fn(|context| Poll::Ready(request.as_mut().poll(context))).await
        {
            return Some(finished);
        }
        self.running.push_back(request);
        self.held = Some(released);
        None
    }

    /// Waits for an answer, which is returned, or until another request may begin. May be dropped and called again.
    pub(super) async fn progress(&mut self) -> Option<FinishedRequest> {
        let Self { running, held } = self;
        tokio::select! {
            biased;
            Some(finished) = running.next(), if !running.is_empty() => return Some(finished),
            () = until_released(held) => {}
        }
        None
    }
}

/// Waits until the guard of the last request is dropped, if there is one.
async fn until_released(held: &mut Option<OrderReleased>) {
    match held {
        // It can only be an error, which says that the guard is gone.
        Some(released) => drop(released.await),
        None => std::future::pending().await,
    }
    *held = None;
}
