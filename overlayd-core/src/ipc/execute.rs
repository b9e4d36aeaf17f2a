//! Executes one request: hands it to the handler, within its deadline and with panics contained.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use tracing::Instrument;

use super::{
    Caller, OrderGuard, RequestHandler, ServerContext,
    in_flight::{FinishedRequest, LastReply},
    reply::OutgoingReply,
};
use crate::protocol::{Request, Response};

/// The request as a future that owns all it needs, so that it can outlive the connection. A panic becomes `err`, and so
/// does a request that outlives its deadline; that one goes on without its client.
pub(super) fn execute<H: RequestHandler>(
    server: &ServerContext<H>,
    caller: &Arc<Caller>,
    id: u64,
    request: Request,
    order: OrderGuard,
) -> impl Future<Output = FinishedRequest> + Send + use<H> {
    let op = request.op();
    let is_shutdown = request == Request::Shutdown;
    let handler = Arc::clone(&server.handler);
    let caller = Arc::clone(caller);
    let counters = Arc::clone(&server.counters);
    let limit = server.limits.request_deadline;
    let call = async move { handler.handle(&caller, request, order).await };
    // Unwind safety: the engine's locks cope with a panic, and nothing else of the future is looked at afterwards.
    let mut call = Box::pin(AssertUnwindSafe(call).catch_unwind().map(move |outcome| {
        outcome.unwrap_or_else(|_panic| {
            tracing::error!(op, "a request panicked");
            Response::err("internal", format_args!("internal error while executing `{op}`; the daemon's log says more"))
        })
    }));
    async move {
        let response = match tokio::time::timeout(limit, &mut call).await {
            Ok(response) => response,
            Err(_elapsed) => {
                counters.overdue.add(1);
                tracing::warn!("a request outlived its deadline and goes on without its client");
                // Dropped half-way, it could leave the host changed and the records not.
                tokio::spawn(call.in_current_span());
                let seconds = limit.as_secs_f32();
                Response::err(
                    "deadline",
                    format_args!("`{op}` did not end within {seconds} s; it may still take effect"),
                )
            }
        };
        // A shutdown that failed leaves the daemon running, and the connection with it.
        let last = if is_shutdown && response == Response::Ok { LastReply::Yes } else { LastReply::No };
        FinishedRequest { id, reply: OutgoingReply::new(id, response).await, last }
    }
}
