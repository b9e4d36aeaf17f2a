use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use tracing::Instrument;

use super::{
    Caller, Handler, Service, Turn,
    reply::Reply,
    under_way::{Answer, Last},
};
use crate::protocol::{Request, Response};

/// The request as a future that owns all it needs, so that it can outlive the connection. A panic becomes `err`, and so
/// does a request that outlives its deadline; that one goes on without its client.
pub(super) fn start<H: Handler>(
    service: &Service<H>,
    caller: &Arc<Caller>,
    id: u64,
    request: Request,
    turn: Turn,
) -> impl Future<Output = Answer> + Send + use<H> {
    let op = request.op();
    let is_shutdown = request == Request::Shutdown;
    let (handler, caller) = (Arc::clone(&service.handler), Arc::clone(caller));
    let (counters, limit) = (Arc::clone(&service.counters), service.limits.request_deadline);
    let call = async move { handler.handle(&caller, request, turn).await };
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
                tokio::spawn(call.in_current_span());
                let seconds = limit.as_secs_f32();
                Response::err(
                    "deadline",
                    format_args!("`{op}` did not end within {seconds} s; it may still take effect"),
                )
            }
        };
        let last = if is_shutdown && response == Response::Ok { Last::Yes } else { Last::No };
        Answer { id, reply: Reply::new(id, response).await, last }
    }
}
