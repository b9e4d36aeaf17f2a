//! Requests as the engine carries them out: parsed, checked, and in types.
//!
//! [`Command`] has one variant for each [`Request`] of the wire. Turning one into the other checks all that a request
//! says by itself; what depends on the state of the node is for the engine to decide. A source of requests other than
//! the socket (a test, a plugin) can make commands directly.

mod attach;
mod container;
mod edge;
mod error;
mod overlay;
pub(crate) mod parse;
mod peer;
mod ports;

use std::net::IpAddr;

pub use self::{
    attach::AttachCommand,
    container::RequestedContainer,
    edge::{EdgeCommand, EdgeGrant, RequestedAccess},
    error::InvalidRequest,
    overlay::OverlayCommand,
    peer::{PeerCommand, RangeCommand},
};
use crate::{
    contract::PortPlan,
    desired::{DeviceScope, SHARED_SERVICE},
    keys::PublicKey,
    protocol::{Hello, OverlayMode, PeerScope, Request},
};

/// Most events that a connection may ask for by name; there are not as many.
const MOST_EVENTS: usize = 64;

/// What the engine is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Note the number of this node in the cluster.
    SetNodeId(u64),
    /// Note the public key that others know this node by.
    SetAnnouncedKey(String),
    /// Set the global overlay up, or change it.
    SetUpOverlay(OverlayCommand),
    /// Remove the global overlay and everything on it.
    TearDownOverlay,
    /// Set a service up.
    SetUpService {
        /// The service.
        service: String,
        /// How its containers are connected.
        mode: OverlayMode,
    },
    /// Remove a service.
    TearDownService(String),
    /// Lease an address of a service's block, without a container.
    AllocateAddress(String),
    /// Return such an address.
    ReleaseAddress(IpAddr),
    /// Attach a container.
    Attach(AttachCommand),
    /// Detach a container.
    Detach(RequestedContainer),
    /// Replace the published ports of a container.
    PublishPorts(RequestedContainer, Vec<PortPlan>),
    /// Add a peer, or change it.
    AddPeer(PeerCommand),
    /// Remove a peer.
    RemovePeer(DeviceScope, PublicKey),
    /// Add a range to a peer.
    AddRange(RangeCommand),
    /// Take a range from a peer.
    RemoveRange(RangeCommand),
    /// Let a machine outside of the cluster in for a while.
    MintEdge(EdgeCommand),
    /// Let it in no longer.
    RevokeEdge(String),
    /// List these machines.
    ListEdges,
    /// Add an address to a name; the name is lowercase.
    RegisterName(String, IpAddr),
    /// Forget a name.
    UnregisterName(String),
    /// Point the host's resolver at a node for one zone.
    WriteScopedResolver,
    /// Undo that.
    RemoveScopedResolver,
    /// Remove networks that no container uses, but for these.
    PruneBridges(Vec<String>),
    /// Describe the node.
    Status,
    /// Look for better paths to peers now.
    TickTraversal,
    /// Describe NAT traversal.
    TraversalStatus,
    /// Remove everything and end the daemon.
    ShutDown,
    /// Introduce the daemon to a client.
    Hello,
    /// Have another process replace this one.
    Upgrade,
}

impl TryFrom<Request> for Command {
    type Error = InvalidRequest;

    fn try_from(request: Request) -> Result<Self, InvalidRequest> {
        Ok(match request {
            Request::SetLocalNodeId { node_id } => Self::SetNodeId(node_id),
            Request::SetLocalWgPubkey { pubkey } => Self::SetAnnouncedKey(parse::name("pubkey", pubkey)?),
            Request::SetupGlobalOverlay(request) => Self::SetUpOverlay(request.try_into()?),
            Request::TeardownGlobalOverlay => Self::TearDownOverlay,
            Request::SetupServiceOverlay { service, mode } => {
                Self::SetUpService { service: service_to_set_up(service)?, mode }
            }
            Request::TeardownServiceOverlay { service } => Self::TearDownService(service),
            Request::AllocateIp { service, .. } => Self::AllocateAddress(parse::name("service", service)?),
            Request::ReleaseIp { ip } => Self::ReleaseAddress(ip),
            Request::AttachContainer(request) => Self::Attach(request.try_into()?),
            // A detach names what was attached before: a handle that cannot be attached is detached already.
            Request::DetachContainer { handle } => Self::Detach(handle.into()),
            Request::PublishPorts { handle, ports } => Self::PublishPorts(handle.into(), ports::ports(ports)?),
            Request::AddPeer { peer, scope } => Self::AddPeer(PeerCommand::new(peer, scope)?),
            Request::RemovePeer { pubkey, scope } => {
                Self::RemovePeer(scope.into(), parse::public_key("public key", &pubkey)?)
            }
            Request::AddAllowedIp { pubkey, cidr, scope } => Self::AddRange(RangeCommand::new(&pubkey, &cidr, scope)?),
            Request::RemoveAllowedIp { pubkey, cidr, scope } => {
                Self::RemoveRange(RangeCommand::new(&pubkey, &cidr, scope)?)
            }
            Request::MintEdgePeer { name, ttl_secs, allow, node_endpoint } => {
                Self::MintEdge(EdgeCommand::new(&name, ttl_secs, &allow, node_endpoint)?)
            }
            Request::RevokeEdgePeer { name } => Self::RevokeEdge(name),
            Request::ListEdgePeers => Self::ListEdges,
            Request::RegisterDns { name, ip } => Self::RegisterName(parse::dns_name(&name)?, ip),
            Request::UnregisterDns { name } => Self::UnregisterName(parse::dns_name(&name)?),
            Request::WriteScopedResolver { .. } => Self::WriteScopedResolver,
            Request::RemoveScopedResolver { .. } => Self::RemoveScopedResolver,
            Request::PruneOrphanBridges { live_bridge_names } => Self::PruneBridges(live_bridge_names),
            Request::Status => Self::Status,
            Request::NatTick => Self::TickTraversal,
            Request::NatStatus => Self::TraversalStatus,
            Request::Shutdown => Self::ShutDown,
            Request::Hello(hello) => hello_command(&hello)?,
            Request::Upgrade => Self::Upgrade,
        })
    }
}

fn service_to_set_up(service: String) -> Result<String, InvalidRequest> {
    if service == SHARED_SERVICE {
        return Err(InvalidRequest::new("service", format_args!("`{service}` is a reserved name")));
    }
    parse::name("service", service)
}

/// Which events a connection wants is the connection's to remember; here is only checked that it is not too much.
fn hello_command(hello: &Hello) -> Result<Command, InvalidRequest> {
    parse::check_name("client", hello.client.as_deref().unwrap_or_default())?;
    parse::at_most("events", MOST_EVENTS, hello.events.len())?;
    Ok(Command::Hello)
}

impl From<PeerScope> for DeviceScope {
    fn from(scope: PeerScope) -> Self {
        match scope {
            PeerScope::Global => Self::Global,
            PeerScope::Service { service } => Self::Service(service.into()),
        }
    }
}

#[cfg(test)]
mod tests;
