//! From a request to its reply.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::{Engine, Error, ShutdownState, areas::Areas, locks::Entered};
use crate::{
    command::{Command, RequestedContainer},
    ipc::{Caller, OrderGuard, RequestHandler},
    protocol::{Event, Request, Response},
};

#[async_trait]
impl RequestHandler for Engine {
    async fn handle(&self, _: &Caller, request: Request, order: OrderGuard) -> Response {
        self.answer_in_order(request, order).await
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.observer.events()
    }
}

impl Engine {
    /// Carries out one request. A refused one becomes `err`, and has left nothing behind.
    pub async fn answer(&self, request: Request) -> Response {
        self.answer_in_order(request, OrderGuard::alone()).await
    }

    async fn answer_in_order(&self, request: Request, order: OrderGuard) -> Response {
        let op = request.op();
        let outcome = match Command::try_from(request) {
            Ok(command) => self.dispatch(command, order).await,
            Err(refusal) => Err(refusal.into()),
        };
        match outcome {
            Ok(response) => response,
            Err(error) => {
                tracing::warn!(op, code = error.code(), %error, "a request was refused");
                Response::err(error.code(), error)
            }
        }
    }

    /// What changes something enters through the gate, which a teardown closes.
    #[expect(clippy::cognitive_complexity, reason = "one arm for each kind of request")]
    async fn dispatch(&self, command: Command, order: OrderGuard) -> Result<Response, Error> {
        let Areas { overlay, peers, services, attachments, edges, names, leases, traversal } = &*self.areas;
        let gate = &self.context.gate;
        match command {
            Command::Status => Ok(Response::Status(self.status.status().await)),
            Command::Hello => Ok(Response::Hello(self.status.hello())),
            Command::SetNodeId(node_id) => overlay.set_local_node_id(node_id).await,
            Command::SetAnnouncedKey(key) => overlay.set_local_wg_pubkey(key).await,
            Command::SetUpOverlay(command) => overlay.set_up(&mut gate.enter().await, command).await,
            Command::TearDownOverlay => self.tear_down().await,
            Command::SetUpService { service, mode } => services.set_up(&mut gate.enter().await, service, mode).await,
            Command::TearDownService(service) => services.tear_down(&mut gate.enter().await, &service).await,
            Command::AllocateAddress(service) => leases.allocate(&gate.enter().await, service).await,
            Command::ReleaseAddress(ip) => leases.release(&gate.enter().await, ip).await,
            Command::Attach(command) => attachments.attach(&mut gate.enter().await, command).await,
            Command::Detach(container) => self.detach(&mut gate.enter().await, container).await,
            Command::PublishPorts(container, ports) => {
                attachments.publish_ports(&mut gate.enter().await, &container.id(), ports).await
            }
            Command::AddPeer(command) => peers.add(&mut gate.enter().await, order, command).await,
            Command::RemovePeer(scope, key) => peers.remove(&mut gate.enter().await, order, scope, key).await,
            Command::AddRange(command) => peers.add_allowed_ip(&mut gate.enter().await, order, command).await,
            Command::RemoveRange(command) => peers.remove_allowed_ip(&mut gate.enter().await, order, command).await,
            Command::RegisterName(name, ip) => names.register(&mut gate.enter().await, order, &name, ip).await,
            Command::UnregisterName(name) => names.unregister(&mut gate.enter().await, order, &name).await,
            Command::TickTraversal => traversal.tick().await,
            Command::TraversalStatus => Ok(traversal.status()),
            Command::ShutDown => self.shut_down().await,
            Command::WriteScopedResolver | Command::RemoveScopedResolver => {
                Err(Error::Unsupported("scoped resolver is macOS-only".into()))
            }
            Command::MintEdge(command) => edges.mint(&mut gate.enter().await, command).await,
            Command::RevokeEdge(name) => edges.revoke(&mut gate.enter().await, &name).await,
            Command::ListEdges => Ok(edges.list()),
            Command::PruneBridges(live) => services.prune(&mut gate.enter().await, live).await,
            Command::Upgrade => Err(Error::Unsupported("this daemon cannot replace itself; restart it".into())),
        }
    }

    /// A service goes with the last of its ephemeral containers.
    async fn detach(&self, entered: &mut Entered<'_>, container: RequestedContainer) -> Result<Response, Error> {
        if let Some(service) = self.areas.attachments.detach(entered, container).await? {
            self.areas.services.remove_if_left(entered, &service).await?;
        }
        Ok(Response::Ok)
    }

    async fn tear_down(&self) -> Result<Response, Error> {
        let exclusive = self.context.gate.exclusive().await;
        self.areas.overlay.tear_down(&exclusive).await?;
        tracing::info!("the global overlay and everything on it is removed");
        Ok(Response::Ok)
    }

    async fn shut_down(&self) -> Result<Response, Error> {
        // Still exclusive when the daemon is told to end: no request sets anything up in between.
        let exclusive = self.context.gate.exclusive().await;
        self.areas.overlay.tear_down(&exclusive).await?;
        tracing::info!("everything is removed; the daemon ends");
        self.shutdown.send_replace(ShutdownState::Done);
        Ok(Response::Ok)
    }
}
