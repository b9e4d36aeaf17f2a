//! From a request to its reply.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::{Engine, Error};
use crate::{
    ipc::{Caller, Handler},
    protocol::{Event, NatStatusWire, Request, Response},
};

#[async_trait]
impl Handler for Engine {
    async fn handle(&self, _: &Caller, request: Request) -> Response {
        self.answer(request).await
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }
}

impl Engine {
    /// Carries out one request. A refused one becomes `err`, and has left nothing behind.
    pub async fn answer(&self, request: Request) -> Response {
        let op = request.op();
        match self.dispatch(request).await {
            Ok(response) => response,
            Err(error) => {
                tracing::warn!(op, code = error.code(), %error, "a request was refused");
                Response::err(error)
            }
        }
    }

    async fn dispatch(&self, request: Request) -> Result<Response, Error> {
        match request {
            Request::Status => Ok(Response::Status(self.status())),
            Request::Hello(_) => Ok(Response::Hello(self.hello())),
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
            Request::AddPeer { peer, scope } => self.add_peer(peer, scope).await,
            Request::RemovePeer { pubkey, scope } => self.remove_peer(&pubkey, scope).await,
            Request::AddAllowedIp { pubkey, cidr, scope } => self.add_allowed_ip(&pubkey, &cidr, scope).await,
            Request::RemoveAllowedIp { pubkey, cidr, scope } => self.remove_allowed_ip(&pubkey, &cidr, scope).await,
            Request::RegisterDns { name, ip } => self.register_dns(&name, ip).await,
            Request::UnregisterDns { name } => self.unregister_dns(&name).await,
            Request::NatTick => self.refuse_nat("nat_tick").map(|()| Response::Ok),
            Request::NatStatus => self.refuse_nat("nat_status").map(|()| Response::NatStatus(NatStatusWire::default())),
            Request::Shutdown => self.shutdown().await,
            Request::WriteScopedResolver { .. } | Request::RemoveScopedResolver { .. } => {
                Err(Error::Unsupported("scoped resolver is macOS-only".into()))
            }
            Request::MintEdgePeer { .. }
            | Request::RevokeEdgePeer { .. }
            | Request::ListEdgePeers
            | Request::PruneOrphanBridges { .. } => {
                Err(Error::Unsupported(format!("{} is not supported yet", request.op())))
            }
        }
    }

    /// Traversal is enabled unless a set-up said otherwise; an enabled one cannot be answered honestly without it.
    fn refuse_nat(&self, op: &str) -> Result<(), Error> {
        let desired = self.desired();
        let enabled = desired.overlay().is_some_and(|overlay| overlay.nat.as_ref().is_none_or(|nat| nat.enabled));
        if enabled { Err(Error::Unsupported(format!("{op}: NAT traversal is not supported yet"))) } else { Ok(()) }
    }
}
