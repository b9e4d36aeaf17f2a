//! One method for each operation, which unwraps the reply that goes with it.

use std::{net::IpAddr, time::Duration};

use overlayd_protocol::{
    AttachContainer, AttachHandle, AttachResult, EdgeConfig, EdgePeerStatus, GuestOverlayConfig, NatStatusWire,
    OverlayMode, PeerScope, PeerSpec, PortSpec, Request, Response, ServiceOverlayInfo, SetupGlobalOverlay,
    StatusSnapshot,
};

use super::{Client, ClientError, ClientResult};

/// What attaching a container gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachOutcome {
    /// The daemon plugged it in.
    Attached(AttachResult),
    /// The guest is to do it, with this.
    Guest(GuestOverlayConfig),
}

impl AttachOutcome {
    /// The address that the container or guest has from now on.
    pub fn ip(&self) -> IpAddr {
        match self {
            Self::Attached(attached) => attached.ip,
            Self::Guest(config) => config.overlay_ip,
        }
    }
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
    /// `set_local_node_id`. Ids must be unique in the cluster: the blocks of services are chosen by them.
    pub async fn set_local_node_id(&self, node_id: u64) -> ClientResult<()> {
        self.tell(Request::SetLocalNodeId { node_id }).await
    }

    /// `set_local_wg_pubkey`.
    pub async fn set_local_wg_pubkey(&self, pubkey: impl Into<String>) -> ClientResult<()> {
        self.tell(Request::SetLocalWgPubkey { pubkey: pubkey.into() }).await
    }

    /// `setup_global_overlay`: brings the node up. Returns the name of the node's device.
    pub async fn setup_global_overlay(&self, setup: SetupGlobalOverlay) -> ClientResult<String> {
        ask!(self, Request::SetupGlobalOverlay(setup), Response::BridgeName { name } => name)
    }

    /// `teardown_global_overlay`.
    pub async fn teardown_global_overlay(&self) -> ClientResult<()> {
        self.tell(Request::TeardownGlobalOverlay).await
    }

    /// `setup_service_overlay`: makes a service's network. Old daemons tell only the network's name.
    pub async fn setup_service_overlay(
        &self,
        service: impl Into<String>,
        mode: OverlayMode,
    ) -> ClientResult<ServiceOverlayInfo> {
        ask!(self, Request::SetupServiceOverlay { service: service.into(), mode },
            Response::ServiceOverlay(info) => info,
            // Old releases of the published daemon answer so.
            Response::BridgeName { name } => ServiceOverlayInfo {
                name, mode, wg_public_key: None, wg_port: None, overlay_ip: None, subnet: None,
            }
        )
    }

    /// `teardown_service_overlay`.
    pub async fn teardown_service_overlay(&self, service: impl Into<String>) -> ClientResult<()> {
        self.tell(Request::TeardownServiceOverlay { service: service.into() }).await
    }

    /// `allocate_ip`.
    pub async fn allocate_ip(&self, service: impl Into<String>, join_global: bool) -> ClientResult<IpAddr> {
        ask!(self, Request::AllocateIp { service: service.into(), join_global }, Response::Ip { ip } => ip)
    }

    /// `release_ip`.
    pub async fn release_ip(&self, ip: IpAddr) -> ClientResult<()> {
        self.tell(Request::ReleaseIp { ip }).await
    }

    /// `attach_container`: plugs a container into its service's network.
    pub async fn attach_container(&self, attach: AttachContainer) -> ClientResult<AttachOutcome> {
        ask!(self, Request::AttachContainer(attach),
            Response::Attached(attached) => AttachOutcome::Attached(attached),
            Response::GuestConfig(config) => AttachOutcome::Guest(config)
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
    pub async fn remove_peer(&self, pubkey: impl Into<String>, scope: PeerScope) -> ClientResult<()> {
        self.tell(Request::RemovePeer { pubkey: pubkey.into(), scope }).await
    }

    /// `add_allowed_ip`.
    pub async fn add_allowed_ip(
        &self,
        pubkey: impl Into<String>,
        cidr: impl Into<String>,
        scope: PeerScope,
    ) -> ClientResult<()> {
        self.tell(Request::AddAllowedIp { pubkey: pubkey.into(), cidr: cidr.into(), scope }).await
    }

    /// `remove_allowed_ip`.
    pub async fn remove_allowed_ip(
        &self,
        pubkey: impl Into<String>,
        cidr: impl Into<String>,
        scope: PeerScope,
    ) -> ClientResult<()> {
        self.tell(Request::RemoveAllowedIp { pubkey: pubkey.into(), cidr: cidr.into(), scope }).await
    }

    /// `mint_edge_peer`; `allow` empty grants everything, `node_endpoint` is `host:port`.
    pub async fn mint_edge_peer(
        &self,
        name: impl Into<String>,
        ttl: Duration,
        allow: impl IntoIterator<Item = impl Into<String>>,
        node_endpoint: impl Into<String>,
    ) -> ClientResult<EdgeConfig> {
        let request = Request::MintEdgePeer {
            name: name.into(),
            ttl_secs: ttl.as_secs(),
            allow: allow.into_iter().map(Into::into).collect(),
            node_endpoint: node_endpoint.into(),
        };
        ask!(self, request, Response::EdgeConfig(config) => config)
    }

    /// `revoke_edge_peer`.
    pub async fn revoke_edge_peer(&self, name: impl Into<String>) -> ClientResult<()> {
        self.tell(Request::RevokeEdgePeer { name: name.into() }).await
    }

    /// `list_edge_peers`.
    pub async fn list_edge_peers(&self) -> ClientResult<Vec<EdgePeerStatus>> {
        ask!(self, Request::ListEdgePeers, Response::EdgePeers { peers } => peers)
    }

    /// `register_dns`.
    pub async fn register_dns(&self, name: impl Into<String>, ip: IpAddr) -> ClientResult<()> {
        self.tell(Request::RegisterDns { name: name.into(), ip }).await
    }

    /// `unregister_dns`.
    pub async fn unregister_dns(&self, name: impl Into<String>) -> ClientResult<()> {
        self.tell(Request::UnregisterDns { name: name.into() }).await
    }

    /// `write_scoped_resolver`.
    pub async fn write_scoped_resolver(
        &self,
        zone: impl Into<String>,
        node_ip: IpAddr,
        port: Option<u16>,
    ) -> ClientResult<()> {
        self.tell(Request::WriteScopedResolver { zone: zone.into(), node_ip, port }).await
    }

    /// `remove_scoped_resolver`.
    pub async fn remove_scoped_resolver(&self, zone: impl Into<String>) -> ClientResult<()> {
        self.tell(Request::RemoveScopedResolver { zone: zone.into() }).await
    }

    /// `prune_orphan_bridges`: removes networks without members. Returns their names.
    pub async fn prune_orphan_bridges(
        &self,
        live_bridge_names: impl IntoIterator<Item = impl Into<String>>,
    ) -> ClientResult<Vec<String>> {
        let live_bridge_names = live_bridge_names.into_iter().map(Into::into).collect();
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

    /// `publish_ports`, an addition: replaces all published ports of the container; an empty list unpublishes.
    pub async fn publish_ports(&self, handle: AttachHandle, ports: Vec<PortSpec>) -> ClientResult<()> {
        self.tell(Request::PublishPorts { handle, ports }).await
    }

    /// `upgrade`, an addition: the daemon replaces itself with the program that is now at its path. Once the successor
    /// serves, this connection closes and the next call makes a new one.
    pub async fn upgrade(&self) -> ClientResult<()> {
        self.tell(Request::Upgrade).await
    }

    /// Asks what is answered `ok`.
    async fn tell(&self, request: Request) -> ClientResult<()> {
        ask!(self, request, Response::Ok => ())
    }
}
