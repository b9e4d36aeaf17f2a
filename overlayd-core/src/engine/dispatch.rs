//! From a request to its reply.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::{Engine, Error, edges::Asked};
use crate::{
    ipc::{Caller, Handler, Turn},
    protocol::{Event, Request, Response},
};

#[async_trait]
impl Handler for Engine {
    async fn handle(&self, _: &Caller, request: Request, turn: Turn) -> Response {
        self.answer_in_turn(request, turn).await
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
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

    async fn dispatch(&self, request: Request, turn: Turn) -> Result<Response, Error> {
        match request {
            Request::Status => Ok(Response::Status(self.status().await)),
            Request::Hello(hello) => self.hello(&hello).map(Response::Hello),
            Request::SetLocalNodeId { node_id } => self.set_local_node_id(node_id).await,
            Request::SetLocalWgPubkey { pubkey } => self.set_local_wg_pubkey(pubkey).await,
            Request::SetupGlobalOverlay(request) => self.setup_global_overlay(request).await,
            Request::TeardownGlobalOverlay => self.teardown_global_overlay().await,
            Request::SetupServiceOverlay { service, mode } => self.setup_service(service, mode).await,
            Request::TeardownServiceOverlay { service } => self.teardown_service(service).await,
            Request::AllocateIp { service, .. } => self.allocate_ip(service).await,
            Request::ReleaseIp { ip } => self.release_ip(ip).await,
            Request::AttachContainer(request) => self.attach_container(request).await,
            Request::DetachContainer { handle } => self.detach_container(handle).await,
            Request::AddPeer { peer, scope } => self.add_peer(turn, peer, scope).await,
            Request::RemovePeer { pubkey, scope } => self.remove_peer(turn, &pubkey, scope).await,
            Request::AddAllowedIp { pubkey, cidr, scope } => self.add_allowed_ip(turn, &pubkey, &cidr, scope).await,
            Request::RemoveAllowedIp { pubkey, cidr, scope } => {
                self.remove_allowed_ip(turn, &pubkey, &cidr, scope).await
            }
            Request::RegisterDns { name, ip } => self.register_dns(turn, &name, ip).await,
            Request::UnregisterDns { name } => self.unregister_dns(turn, &name).await,
            Request::NatTick => self.nat_tick().await,
            Request::NatStatus => Ok(self.nat_status()),
            Request::Shutdown => self.shutdown().await,
            Request::WriteScopedResolver { .. } | Request::RemoveScopedResolver { .. } => {
                Err(Error::Unsupported("scoped resolver is macOS-only".into()))
            }
            Request::MintEdgePeer { name, ttl_secs, allow, node_endpoint } => {
                self.mint_edge_peer(Asked { name, ttl_secs, allow, node_endpoint }).await
            }
            Request::RevokeEdgePeer { name } => self.revoke_edge_peer(&name).await,
            Request::ListEdgePeers => Ok(self.list_edge_peers()),
            Request::PruneOrphanBridges { live_bridge_names } => self.prune_orphan_bridges(live_bridge_names).await,
            Request::PublishPorts { handle, ports } => self.publish_ports(handle, ports).await,
            Request::Upgrade => Err(Error::Unsupported("this daemon cannot replace itself; restart it".into())),
        }
    }
}
