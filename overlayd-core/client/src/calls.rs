//! One method for each operation, which unwraps the reply that goes with it.

use std::net::IpAddr;

use super::{Client, ClientError, ClientResult};
use overlayd_protocol::{
    AttachContainer, AttachHandle, AttachResult, EdgeConfig, EdgePeerStatus, GuestOverlayConfig, Hello, HelloReply,
    NatStatusWire, OverlayMode, PeerScope, PeerSpec, Request, Response, ServiceOverlayInfo, SetupGlobalOverlay,
    StatusSnapshot,
};

/// What attaching a container gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// The daemon plugged it in.
    Attached(AttachResult),
    /// The guest is to do it, with this.
    Guest(GuestOverlayConfig),
}

/// Sends `$request` and unwraps the reply `$pattern`.
macro_rules! ask {
    ($client:expr, $request:expr, $($pattern:pat => $value:expr),+) => {{
        let request = $request;
        let op = request.op();
        match $client.call(request).await? {
            $($pattern => Ok($value),)+
            other => Err(ClientError::UnexpectedReply { op, found: format!("`{}`", other.result()) }),
        }
    }};
}

impl Client {
    /// `set_local_node_id`.
    pub async fn set_local_node_id(&self, node_id: u64) -> ClientResult<()> {
        self.tell(Request::SetLocalNodeId { node_id }).await
    }

    /// `set_local_wg_pubkey`.
    pub async fn set_local_wg_pubkey(&self, pubkey: String) -> ClientResult<()> {
        self.tell(Request::SetLocalWgPubkey { pubkey }).await
    }

    /// `setup_global_overlay`; the name of the node's device.
    pub async fn setup_global_overlay(&self, setup: SetupGlobalOverlay) -> ClientResult<String> {
        ask!(self, Request::SetupGlobalOverlay(setup), Response::BridgeName { name } => name)
    }

    /// `teardown_global_overlay`.
    pub async fn teardown_global_overlay(&self) -> ClientResult<()> {
        self.tell(Request::TeardownGlobalOverlay).await
    }

    /// `setup_service_overlay`. Old daemons tell only the network's name.
    pub async fn setup_service_overlay(&self, service: String, mode: OverlayMode) -> ClientResult<ServiceOverlayInfo> {
        ask!(self, Request::SetupServiceOverlay { service, mode },
            Response::ServiceOverlay(info) => info,
            Response::BridgeName { name } => ServiceOverlayInfo {
                name, mode, wg_public_key: None, wg_port: None, overlay_ip: None, subnet: None,
            }
        )
    }

    /// `teardown_service_overlay`.
    pub async fn teardown_service_overlay(&self, service: String) -> ClientResult<()> {
        self.tell(Request::TeardownServiceOverlay { service }).await
    }

    /// `allocate_ip`.
    pub async fn allocate_ip(&self, service: String, join_global: bool) -> ClientResult<IpAddr> {
        ask!(self, Request::AllocateIp { service, join_global }, Response::Ip { ip } => ip)
    }

    /// `release_ip`.
    pub async fn release_ip(&self, ip: IpAddr) -> ClientResult<()> {
        self.tell(Request::ReleaseIp { ip }).await
    }

    /// `attach_container`.
    pub async fn attach_container(&self, attach: AttachContainer) -> ClientResult<Attachment> {
        ask!(self, Request::AttachContainer(attach),
            Response::Attached(attached) => Attachment::Attached(attached),
            Response::GuestConfig(config) => Attachment::Guest(config)
        )
    }

    /// `detach_container`.
    pub async fn detach_container(&self, handle: AttachHandle) -> ClientResult<()> {
        self.tell(Request::DetachContainer { handle }).await
    }

    /// `add_peer`.
    pub async fn add_peer(&self, peer: PeerSpec, scope: PeerScope) -> ClientResult<()> {
        self.tell(Request::AddPeer { peer, scope }).await
    }

    /// `remove_peer`.
    pub async fn remove_peer(&self, pubkey: String, scope: PeerScope) -> ClientResult<()> {
        self.tell(Request::RemovePeer { pubkey, scope }).await
    }

    /// `add_allowed_ip`.
    pub async fn add_allowed_ip(&self, pubkey: String, cidr: String, scope: PeerScope) -> ClientResult<()> {
        self.tell(Request::AddAllowedIp { pubkey, cidr, scope }).await
    }

    /// `remove_allowed_ip`.
    pub async fn remove_allowed_ip(&self, pubkey: String, cidr: String, scope: PeerScope) -> ClientResult<()> {
        self.tell(Request::RemoveAllowedIp { pubkey, cidr, scope }).await
    }

    /// `mint_edge_peer`; `allow` empty grants everything, `node_endpoint` is `host:port`.
    pub async fn mint_edge_peer(
        &self,
        name: String,
        ttl: std::time::Duration,
        allow: Vec<String>,
        node_endpoint: String,
    ) -> ClientResult<EdgeConfig> {
        let request = Request::MintEdgePeer { name, ttl_secs: ttl.as_secs(), allow, node_endpoint };
        ask!(self, request, Response::EdgeConfig(config) => config)
    }

    /// `revoke_edge_peer`.
    pub async fn revoke_edge_peer(&self, name: String) -> ClientResult<()> {
        self.tell(Request::RevokeEdgePeer { name }).await
    }

    /// `list_edge_peers`.
    pub async fn list_edge_peers(&self) -> ClientResult<Vec<EdgePeerStatus>> {
        ask!(self, Request::ListEdgePeers, Response::EdgePeers { peers } => peers)
    }

    /// `register_dns`.
    pub async fn register_dns(&self, name: String, ip: IpAddr) -> ClientResult<()> {
        self.tell(Request::RegisterDns { name, ip }).await
    }

    /// `unregister_dns`.
    pub async fn unregister_dns(&self, name: String) -> ClientResult<()> {
        self.tell(Request::UnregisterDns { name }).await
    }

    /// `write_scoped_resolver`.
    pub async fn write_scoped_resolver(&self, zone: String, node_ip: IpAddr, port: Option<u16>) -> ClientResult<()> {
        self.tell(Request::WriteScopedResolver { zone, node_ip, port }).await
    }

    /// `remove_scoped_resolver`.
    pub async fn remove_scoped_resolver(&self, zone: String) -> ClientResult<()> {
        self.tell(Request::RemoveScopedResolver { zone }).await
    }

    /// `prune_orphan_bridges`; the networks that were removed.
    pub async fn prune_orphan_bridges(&self, live_bridge_names: Vec<String>) -> ClientResult<Vec<String>> {
        let request = Request::PruneOrphanBridges { live_bridge_names };
        ask!(self, request, Response::PrunedBridges { reclaimed } => reclaimed)
    }

    /// `status`.
    pub async fn status(&self) -> ClientResult<StatusSnapshot> {
        ask!(self, Request::Status, Response::Status(status) => status)
    }

    /// `nat_tick`.
    pub async fn nat_tick(&self) -> ClientResult<()> {
        self.tell(Request::NatTick).await
    }

    /// `nat_status`.
    pub async fn nat_status(&self) -> ClientResult<NatStatusWire> {
        ask!(self, Request::NatStatus, Response::NatStatus(status) => status)
    }

    /// `shutdown`.
    pub async fn shutdown(&self) -> ClientResult<()> {
        self.tell(Request::Shutdown).await
    }

    /// `hello`, an addition: the published daemon hangs up on it.
    pub async fn hello(&self, hello: Hello) -> ClientResult<HelloReply> {
        ask!(self, Request::Hello(hello), Response::Hello(reply) => reply)
    }

    /// Asks what is answered `ok`.
    async fn tell(&self, request: Request) -> ClientResult<()> {
        ask!(self, request, Response::Ok => ())
    }
}
