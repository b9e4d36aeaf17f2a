//! How a caller that may not use the socket is told so.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use overlayd_core::{
    ipc::{Caller, ConnectionLimits, OrderGuard, RequestHandler, ServerContext, serve_connection},
    protocol::{Event, Request, Response},
};
use tokio::{net::UnixStream, sync::broadcast};
use tokio_util::sync::CancellationToken;

/// Time for a caller that is not admitted to ask something and be told why it gets nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers the first request with the reason, so that a person sees it, and closes.
pub(super) async fn refuse(stream: UnixStream, caller: Caller, reason: String) {
    let closing = CancellationToken::new();
    let refusal = RefusalHandler { reason, closing: closing.clone() };
    let limits = ConnectionLimits { frame_deadline: PATIENCE, ..ConnectionLimits::default() };
    let service = ServerContext::new(Arc::new(refusal), limits, Arc::default(), closing);
    if tokio::time::timeout(PATIENCE, serve_connection(stream, caller, &service)).await.is_err() {
        tracing::debug!("a caller that is not admitted asked nothing");
    }
}

/// Executes nothing.
struct RefusalHandler {
    reason: String,
    closing: CancellationToken,
}

#[async_trait]
impl RequestHandler for RefusalHandler {
    async fn handle(&self, _caller: &Caller, _request: Request, _order: OrderGuard) -> Response {
        self.closing.cancel();
        Response::err("not_allowed", &self.reason)
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        // The sender is gone at once: such a caller hears nothing.
        broadcast::channel(1).1
    }
}
