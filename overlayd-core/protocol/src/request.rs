//! Requests: what a client may ask, and the reply that goes with each.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    AttachContainer, AttachHandle, Hello, OverlayMode, PeerScope, PeerSpec, PortSpec, SetupGlobalOverlay, unset,
};

// The order of variants and members is the canonical order of the wire: serde writes them as they are declared.
/// What a client may ask, by its tag `op`. The reply that goes with each is named in its text; each may be answered
/// [`super::Response::Err`] instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Tells the node its id. Reply `ok`.
    SetLocalNodeId {
        /// The id.
        node_id: u64,
    },
    /// Tells the node the public key others know it by. Reply `ok`.
    SetLocalWgPubkey {
        /// Base64.
        pubkey: String,
    },
    /// Brings the node's overlay up. Reply `bridge_name`.
    SetupGlobalOverlay(SetupGlobalOverlay),
    /// Takes the node's overlay and everything on it down. Reply `ok`.
    TeardownGlobalOverlay,
    /// Makes a service's network. Reply `service_overlay`.
    SetupServiceOverlay {
        /// The service.
        service: String,
        /// How it is connected.
        mode: OverlayMode,
    },
    /// Removes a service's network. Reply `ok`.
    TeardownServiceOverlay {
        /// The service.
        service: String,
    },
    /// Reserves an address. Reply `ip`.
    AllocateIp {
        /// Whose block to take it from.
        service: String,
        /// Whether to take it from the node's slice instead.
        join_global: bool,
    },
    /// Returns a reserved address. Reply `ok`.
    ReleaseIp {
        /// The address.
        ip: IpAddr,
    },
    /// Plugs a container in. Reply `attached`, or `guest_config` for a guest that manages its own device.
    AttachContainer(AttachContainer),
    /// Unplugs a container. Reply `ok`.
    DetachContainer {
        /// Which one.
        handle: AttachHandle,
    },
    /// Adds or updates a peer. Reply `ok`.
    AddPeer {
        /// The peer, its members next to the tag.
        #[serde(flatten)]
        peer: PeerSpec,
        /// On which device.
        #[serde(default)]
        scope: PeerScope,
    },
    /// Removes a peer. Reply `ok`.
    RemovePeer {
        /// Base64.
        pubkey: String,
        /// On which device.
        #[serde(default)]
        scope: PeerScope,
    },
    /// Adds a range to a peer. Reply `ok`.
    AddAllowedIp {
        /// Base64.
        pubkey: String,
        /// The range.
        cidr: String,
        /// On which device.
        #[serde(default)]
        scope: PeerScope,
    },
    /// Takes a range from a peer. Reply `ok`.
    RemoveAllowedIp {
        /// Base64.
        pubkey: String,
        /// The range.
        cidr: String,
        /// On which device.
        #[serde(default)]
        scope: PeerScope,
    },
    /// Issues an identity to a machine outside the cluster. Reply `edge_config`.
    MintEdgePeer {
        /// Its name.
        name: String,
        /// How long it lives, in seconds.
        ttl_secs: u64,
        /// What it may reach (CIDRs, addresses, services); empty means everything.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        allow: Vec<String>,
        /// `host:port` under which it reaches this node.
        node_endpoint: String,
    },
    /// Withdraws an issued identity. Reply `ok`.
    RevokeEdgePeer {
        /// Its name.
        name: String,
    },
    /// Lists issued identities. Reply `edge_peers`.
    ListEdgePeers,
    /// Adds a name. Reply `ok`.
    RegisterDns {
        /// The name.
        name: String,
        /// What it stands for.
        ip: IpAddr,
    },
    /// Removes a name. Reply `ok`.
    UnregisterDns {
        /// The name.
        name: String,
    },
    /// Points the host's resolver at a node for one zone. Reply `ok`.
    WriteScopedResolver {
        /// The zone.
        zone: String,
        /// Who answers for it.
        node_ip: IpAddr,
        /// On which port; 53 when unset.
        #[serde(default, skip_serializing_if = "unset")]
        port: Option<u16>,
    },
    /// Undoes [`Request::WriteScopedResolver`]. Reply `ok`.
    RemoveScopedResolver {
        /// The zone.
        zone: String,
    },
    /// Removes networks without members. Reply `pruned_bridges`.
    PruneOrphanBridges {
        /// Networks to keep.
        live_bridge_names: Vec<String>,
    },
    /// Describes the node. Reply `status`.
    Status,
    /// Looks for better paths now. Reply `ok`.
    NatTick,
    /// Describes NAT traversal. Reply `nat_status`.
    NatStatus,
    /// Takes everything down and ends the daemon. Reply `ok`, after which the connection closes.
    Shutdown,
    /// *Addition.* Introduces client and daemon to each other. Reply `hello`.
    Hello(Hello),
    /// *Addition.* Replaces the ports of the host that lead to an attached container. Reply `ok`.
    PublishPorts {
        /// Whose ports.
        handle: AttachHandle,
        /// All of them; an empty list unpublishes.
        ports: Vec<PortSpec>,
    },
    /// *Addition.* Has the daemon replace itself with the program that is now at its path; for root and the daemon's own
    /// user. Reply `ok` once the successor serves.
    Upgrade,
}

impl Request {
    /// The tag of the operation, for logs and metrics.
    pub fn op(&self) -> &'static str {
        match self {
            Self::SetLocalNodeId { .. } => "set_local_node_id",
            Self::SetLocalWgPubkey { .. } => "set_local_wg_pubkey",
            Self::SetupGlobalOverlay(_) => "setup_global_overlay",
            Self::TeardownGlobalOverlay => "teardown_global_overlay",
            Self::SetupServiceOverlay { .. } => "setup_service_overlay",
            Self::TeardownServiceOverlay { .. } => "teardown_service_overlay",
            Self::AllocateIp { .. } => "allocate_ip",
            Self::ReleaseIp { .. } => "release_ip",
            Self::AttachContainer(_) => "attach_container",
            Self::DetachContainer { .. } => "detach_container",
            Self::AddPeer { .. } => "add_peer",
            Self::RemovePeer { .. } => "remove_peer",
            Self::AddAllowedIp { .. } => "add_allowed_ip",
            Self::RemoveAllowedIp { .. } => "remove_allowed_ip",
            Self::MintEdgePeer { .. } => "mint_edge_peer",
            Self::RevokeEdgePeer { .. } => "revoke_edge_peer",
            Self::ListEdgePeers => "list_edge_peers",
            Self::RegisterDns { .. } => "register_dns",
            Self::UnregisterDns { .. } => "unregister_dns",
            Self::WriteScopedResolver { .. } => "write_scoped_resolver",
            Self::RemoveScopedResolver { .. } => "remove_scoped_resolver",
            Self::PruneOrphanBridges { .. } => "prune_orphan_bridges",
            Self::Status => "status",
            Self::NatTick => "nat_tick",
            Self::NatStatus => "nat_status",
            Self::Shutdown => "shutdown",
            Self::Hello(_) => "hello",
            Self::PublishPorts { .. } => "publish_ports",
            Self::Upgrade => "upgrade",
        }
    }
}
