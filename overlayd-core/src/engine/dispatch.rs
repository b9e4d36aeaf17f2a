//! From a request to its reply.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::{Engine, Error, ShutdownState, areas::Areas, edges::EdgeRequest, locks::Entered};
use crate::{
    ipc::{Caller, Handler, Turn},
    protocol::{AttachHandle, Event, Request, Response},
};

#[async_trait]
impl Handler for Engine {
    async fn handle(&self, _: &Caller, request: Request, turn: Turn) -> Response {
        self.answer_in_turn(request, turn).await
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.observer.events()
    }
}

impl Engine {
    /// Carries out one request. A refused one becomes `err`, and has left nothing behind.
    pub async fn answer(&self, request: Request) -> Response {
        self.answer_in_turn(request, Turn::alone()).await
    }

    async fn answer_in_turn(&self, request: Request, turn: Turn) -> Response {
        let op = request.op();
        match self.dispatch(request, turn).await {
            Ok(response) => response,
            Err(error) => {
                tracing::warn!(op, code = error.code(), %error, "a request was refused");
                Response::err(error)
            }
        }
    }

    /// What changes something enters through the gate, which a teardown closes.
    #[expect(clippy::cognitive_complexity, reason = "one arm for each kind of request")]
    async fn dispatch(&self, request: Request, turn: Turn) -> Result<Response, Error> {
        let Areas { overlay, peers, services, attachments, edges, names, leases, traversal } = &*self.areas;
        let gate = &self.context.gate;
        match request {
            Request::Status => Ok(Response::Status(self.status.status().await)),
            Request::Hello(hello) => self.status.hello(&hello).map(Response::Hello),
            Request::SetLocalNodeId { node_id } => overlay.set_local_node_id(node_id).await,
            Request::SetLocalWgPubkey { pubkey } => overlay.set_local_wg_pubkey(pubkey).await,
            Request::SetupGlobalOverlay(request) => overlay.set_up(&mut gate.enter().await, request).await,
            Request::TeardownGlobalOverlay => self.tear_down().await,
            Request::SetupServiceOverlay { service, mode } => {
                services.set_up(&mut gate.enter().await, service, mode).await
            }
            Request::TeardownServiceOverlay { service } => services.tear_down(&mut gate.enter().await, &service).await,
            Request::AllocateIp { service, .. } => leases.allocate(&gate.enter().await, service).await,
            Request::ReleaseIp { ip } => leases.release(&gate.enter().await, ip).await,
            Request::AttachContainer(request) => attachments.attach(&mut gate.enter().await, request).await,
            Request::DetachContainer { handle } => self.detach(&mut gate.enter().await, handle).await,
            Request::PublishPorts { handle, ports } => {
                attachments.publish_ports(&mut gate.enter().await, handle, ports).await
            }
            Request::AddPeer { peer, scope } => peers.add(&mut gate.enter().await, turn, peer, scope).await,
            Request::RemovePeer { pubkey, scope } => peers.remove(&mut gate.enter().await, turn, &pubkey, scope).await,
            Request::AddAllowedIp { pubkey, cidr, scope } => {
                peers.add_allowed_ip(&mut gate.enter().await, turn, (&pubkey, &cidr), scope).await
            }
            Request::RemoveAllowedIp { pubkey, cidr, scope } => {
                peers.remove_allowed_ip(&mut gate.enter().await, turn, (&pubkey, &cidr), scope).await
            }
            Request::RegisterDns { name, ip } => names.register(&mut gate.enter().await, turn, &name, ip).await,
            Request::UnregisterDns { name } => names.unregister(&mut gate.enter().await, turn, &name).await,
            Request::NatTick => traversal.tick().await,
            Request::NatStatus => Ok(traversal.status()),
            Request::Shutdown => self.shut_down().await,
            Request::WriteScopedResolver { .. } | Request::RemoveScopedResolver { .. } => {
                Err(Error::Unsupported("scoped resolver is macOS-only".into()))
            }
            Request::MintEdgePeer { name, ttl_secs, allow, node_endpoint } => {
                let asked = EdgeRequest { name, ttl_secs, allow, node_endpoint };
                edges.mint(&mut gate.enter().await, asked).await
            }
            Request::RevokeEdgePeer { name } => edges.revoke(&mut gate.enter().await, &name).await,
            Request::ListEdgePeers => Ok(edges.list()),
            Request::PruneOrphanBridges { live_bridge_names } => {
                services.prune(&mut gate.enter().await, live_bridge_names).await
            }
            Request::Upgrade => Err(Error::Unsupported("this daemon cannot replace itself; restart it".into())),
        }
    }

    /// A service goes with the last of its ephemeral containers.
    async fn detach(&self, entered: &mut Entered<'_>, handle: AttachHandle) -> Result<Response, Error> {
        if let Some(service) = self.areas.attachments.detach(entered, handle).await? {
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
        let exclusive = self.context.gate.exclusive().await;
        self.areas.overlay.tear_down(&exclusive).await?;
        tracing::info!("everything is removed; the daemon ends");
        self.shutdown.send_replace(ShutdownState::Done);
        Ok(Response::Ok)
    }
}
