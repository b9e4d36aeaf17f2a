//! What the server's side of a connection needs of the daemon: a handler of requests, and what all connections share.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::{Caller, ConnectionLimits, OrderGuard, SocketCounters, frame_reader::LargeFrameBudget};
use crate::protocol::{Event, Request, Response};

/// Executes requests: the engine, as the server sees it.
#[async_trait]
pub trait RequestHandler: Send + Sync + 'static {
    /// Executes one request. It runs to its end even when the client leaves or the deadline passes, so it needs a bound of
    /// its own. Requests of different connections come concurrently, those of one connection one after the other, except
    /// that the next of several changes of peers or names may come when the handler drops the guard of the one before.
    async fn handle(&self, caller: &Caller, request: Request, order: OrderGuard) -> Response;

    /// A queue with the events from now on. Its capacity should be [`ConnectionLimits::event_queue`].
    fn events(&self) -> broadcast::Receiver<Arc<Event>>;
}

/// What all connections of a server share.
#[derive(Debug)]
pub struct ServerContext<H> {
    /// Executes the requests.
    pub handler: Arc<H>,
    /// What a connection may cost.
    pub limits: ConnectionLimits,
    /// Where things are counted.
    pub counters: Arc<SocketCounters>,
    /// When cancelled, connections finish the request they are at, send its reply, and close.
    pub closing: CancellationToken,
    /// Shared by the large frames of all connections.
    pub(super) budget: LargeFrameBudget,
}

impl<H> ServerContext<H> {
    /// Counts in `counters`, and ends with `closing`.
    pub fn new(
        handler: Arc<H>,
        limits: ConnectionLimits,
        counters: Arc<SocketCounters>,
        closing: CancellationToken,
    ) -> Self {
        let budget = LargeFrameBudget::new(limits.unfinished);
        Self { handler, limits, counters, closing, budget }
    }
}

// Not derived: a handler need not be `Clone` for its context to be.
impl<H> Clone for ServerContext<H> {
    fn clone(&self) -> Self {
        Self {
            handler: Arc::clone(&self.handler),
            limits: self.limits.clone(),
            counters: Arc::clone(&self.counters),
            closing: self.closing.clone(),
            budget: self.budget.clone(),
        }
    }
}
