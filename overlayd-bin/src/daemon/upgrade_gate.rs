//! What clients speak to: the engine, and the daemon itself where it is to be replaced.

use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use overlayd_core::{
    engine::Engine,
    ipc::{Caller, CallerIdentity, OrderGuard, RequestHandler},
    protocol::{Event, Request, Response},
};
use tokio::sync::{broadcast, mpsc, oneshot};

/// What clients speak to: the engine while there is one, and the daemon itself where it is to be replaced.
pub(crate) struct UpgradeGate {
    engine: Mutex<Option<Arc<Engine>>>,
    requests: mpsc::Sender<UpgradeRequest>,
}

/// A caller wants the daemon replaced, and waits for the outcome.
pub(crate) struct UpgradeRequest {
    done: oneshot::Sender<Result<(), String>>,
}

impl UpgradeRequest {
    /// Tells how it went. A caller that has left in between finds it in the log.
    pub(crate) fn end(self, outcome: Result<(), String>) {
        drop(self.done.send(outcome));
    }
}

impl UpgradeGate {
    /// Requests go to `engine`, those to be replaced into the queue.
    pub(crate) fn new(engine: Arc<Engine>) -> (Arc<Self>, mpsc::Receiver<UpgradeRequest>) {
        // Room for one: a second caller is told at once that the daemon is being replaced.
        let (requests, queue) = mpsc::channel(1);
        (Arc::new(Self { engine: Mutex::new(Some(engine)), requests }), queue)
    }

    /// Takes the engine away from the clients. What they have asked already goes on to its end.
    pub(crate) fn retire(&self) {
        drop(self.slot().take());
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Engine>>> {
        overlayd_core::sync::lock(&self.engine)
    }

    async fn upgrade(&self, caller: &Caller) -> Response {
        if !may_replace(&caller.identity) {
            return Response::err(
                "not_allowed",
                "not allowed: only root and the daemon's own user may replace the daemon",
            );
        }
        tracing::info!(%caller, "asked to start a successor");
        let (done, outcome) = oneshot::channel();
        if self.requests.try_send(UpgradeRequest { done }).is_err() {
            return Response::err("replacing", "the daemon is being replaced already");
        }
        match outcome.await {
            Ok(Ok(())) => Response::Ok,
            Ok(Err(reason)) => Response::err("upgrade_failed", reason),
            Err(_) => Response::err("upgrade_failed", "the daemon ended before it was replaced"),
        }
    }
}

/// Those may replace the daemon who can start programs as its user, with its settings.
fn may_replace(identity: &CallerIdentity) -> bool {
    match identity {
        CallerIdentity::Unix { uid, .. } => *uid == 0 || *uid == rustix::process::geteuid().as_raw(),
        _ => false,
    }
}

#[async_trait]
impl RequestHandler for UpgradeGate {
    async fn handle(&self, caller: &Caller, request: Request, order: OrderGuard) -> Response {
        if request == Request::Upgrade {
            return self.upgrade(caller).await;
        }
        // Not held while the request runs: a request that lasts would keep others out.
        let engine = self.slot().clone();
        match engine {
            Some(engine) => engine.handle(caller, request, order).await,
            None => Response::err("replacing", "the daemon is being replaced; ask again on a new connection"),
        }
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        match &*self.slot() {
            Some(engine) => engine.events(),
            // The sender is gone at once: there is nothing to tell any more.
            None => broadcast::channel(1).1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_the_group_may_not_replace_the_daemon() {
        let own = rustix::process::geteuid().as_raw();
        let member = |uid| may_replace(&CallerIdentity::Unix { uid, gid: 990, pid: 42 });
        assert!(member(0) && member(own));
        assert!(!member(own + 1000));
        assert!(!may_replace(&CallerIdentity::InProcess));
    }
}
