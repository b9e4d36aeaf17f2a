use std::{net::IpAddr, path::PathBuf};

use async_trait::async_trait;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AttachmentId, Finding, Guid, Handover, NetworkName, Result};
use crate::{names::LinkName, protocol::PortProtocol};

/// Local networks that containers plug into: bridge and veth on Linux, HCN networks and endpoints on Windows. It also
/// decides how those networks reach the outside.
#[async_trait]
pub trait Attacher: Send + Sync + 'static {
    /// The backend's name in logs, as `linux-bridge`.
    fn name(&self) -> &'static str;

    /// Makes the network be as planned: present, up, with its gateway addresses, MTU, egress and overlay link.
    /// Members stay plugged in. Returns the identity the host gave it, where the host gives one (HCN).
    async fn ensure_network(&self, plan: &NetworkPlan) -> Result<NetworkInfo>;

    /// Removes the network and all that belongs to it: rules, routes, host settings it alone needed.
    async fn remove_network(&self, network: &NetworkName) -> Result<()>;

    /// Plugs the container in as planned. For a container that is already plugged in as planned nothing changes.
    async fn attach(&self, plan: &AttachPlan) -> Result<Attached>;

    /// Unplugs; the container may be gone already.
    async fn detach(&self, id: &AttachmentId) -> Result<()>;

    /// The networks and attachments that carry our mark.
    async fn observe(&self) -> Result<HostNetworks>;

    /// How a successor gets what this backend holds in this process; `None` where it holds nothing.
    fn handover(&self) -> Option<&dyn Handover> {
        None
    }
}

/// A local network as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Host name of the network.
    pub name: NetworkName,
    /// Identity from an earlier run, where the host gives networks one (HCN); tried before the name.
    pub guid: Option<Guid>,
    /// Gateway addresses of this node on the network, each with the network's prefix. At least one.
    pub gateways: Vec<IpNet>,
    /// Largest packet in bytes, for the network and everything plugged into it.
    pub mtu: u16,
    /// How members reach what is not overlay. On Windows this also chooses Internal or NAT.
    pub egress: Egress,
    /// How members reach other nodes; `None` until there is an overlay.
    pub overlay: Option<OverlayLink>,
}

/// How the members of a network reach what is neither local nor overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Egress {
    /// Not at all.
    None,
    /// Behind an address of this node (Linux: masquerade; HCN: OutBoundNAT with the overlay ranges excepted).
    Masquerade,
    /// Behind an address of this node by the switch itself (HCN type NAT; on Linux the same as masquerade).
    Nat,
}

/// The overlay that a local network is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayLink {
    /// Devices that carry it, where there are any on the host: the global one, and the service's own.
    pub devices: Vec<LinkName>,
    /// The ranges it covers: forwarded both ways and never masqueraded.
    pub ranges: Vec<IpNet>,
}

/// A local network as it came to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkInfo {
    /// The host's identity for it (HCN).
    pub guid: Option<Guid>,
}

/// Where the container is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The network namespace of this process.
    Process(u32),
    /// The network namespace at this path (a bind mount or `/proc/…/ns/net`).
    Namespace(PathBuf),
    /// A Windows compute system.
    Compute(String),
    /// Not in a namespace of this host's making: a peer of the overlay device, or the host itself. There is nothing to
    /// plug in, only a fence to put around this address.
    Address(IpAddr),
}

/// Which container a handle meant when it was attached (Linux: boot, start time and namespace of the process), so
/// that a recycled PID is recognised. Opaque to the core, which only stores it and gives it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetIdentity(pub String);

/// An attachment as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachPlan {
    /// Which attachment this is.
    pub id: AttachmentId,
    /// Where to plug in.
    pub target: Target,
    /// The container that was attached under this id before; another one now is [`super::Error::TargetChanged`].
    pub known: Option<TargetIdentity>,
    /// Its place on the network of its service; `None` where there is no namespace to plug into.
    pub service: Option<ServiceLeg>,
    /// Its place on the overlay itself, where it asked for one.
    pub overlay: Option<OverlayLeg>,
    /// Resolver to configure, where that is the host's business (HCN endpoints).
    pub resolver: Option<Resolver>,
    /// What the container may not reach; it stands before the container can send its first packet.
    pub fence: Option<FencePlan>,
    /// Ports of the host that lead to the container.
    pub ports: Vec<PortPlan>,
}

/// Membership of an isolation network. Members on this node reach each other, `reachable`, and everything outside of
/// `overlay`; replies of established connections pass; all else is dropped. It costs the same whether the network has
/// one member or a thousand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FencePlan {
    /// The isolation network. All members are given the same `reachable`, `overlay` and `inbound`.
    pub network: String,
    /// What members reach in addition to each other: this node's overlay addresses, the resolver, granted ranges.
    pub reachable: Vec<IpNet>,
    /// The ranges that are closed to members.
    pub overlay: Vec<IpNet>,
    /// Who may open connections to members.
    pub inbound: Inbound,
}

/// Who may open connections to the members of an isolation network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inbound {
    /// Everybody.
    Anyone,
    /// Of the overlay only members and `reachable`; everybody outside of it.
    MembersOnly,
}

/// Ports of the host that lead to a container: destination NAT, with hairpin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPlan {
    /// Transport.
    pub protocol: PortProtocol,
    /// The host's address; `None` is all of them.
    pub host_ip: Option<IpAddr>,
    /// First and last port of the host, inclusive.
    pub host_ports: (u16, u16),
    /// The container's port that the first one leads to; the others follow in order.
    pub container_port: u16,
}

impl AttachPlan {
    /// The addresses that the container gets, the service's first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let service = self.service.as_ref().map(|leg| leg.address.addr());
        service.into_iter().chain(self.overlay.as_ref().map(|leg| leg.address))
    }
}

/// A container's interface on the network of its service. It has the default route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLeg {
    /// The network, which must exist.
    pub network: NetworkName,
    /// Address with the network's prefix.
    pub address: IpNet,
    /// Next hop of the default route: this node's address on the network.
    pub gateway: IpAddr,
    /// Largest packet in bytes.
    pub mtu: u16,
}

/// A container's interface on the overlay itself. It is on no network: the host has a route to the container's address,
/// and the container one to the overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayLeg {
    /// The container's address; it stands alone, without neighbours.
    pub address: IpAddr,
    /// What is reached by this leg: the range of the overlay.
    pub range: IpNet,
    /// The node's overlay address, which the host speaks to the container from.
    pub source: IpAddr,
    /// The device the container's packets may leave by, and arrive from.
    pub device: LinkName,
    /// Largest packet in bytes.
    pub mtu: u16,
}

/// A resolver for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    /// Server, port 53.
    pub server: IpAddr,
    /// Search domain.
    pub domain: Option<String>,
}

/// An attachment as it came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Which container the handle meant.
    pub identity: TargetIdentity,
    /// The namespace made for it (HCN).
    pub namespace: Option<Guid>,
}

/// What is on the host with our mark, and what was found there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostNetworks {
    /// Networks with our mark.
    pub networks: Vec<ObservedNetwork>,
    /// Attachments with our mark.
    pub attachments: Vec<ObservedAttachment>,
    /// What an operator should know of this host, such as rules of other programs that drop packets of the overlay.
    pub findings: Vec<Finding>,
}

/// A local network as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedNetwork {
    /// Host name of the network.
    pub name: NetworkName,
    /// The host's identity for it (HCN).
    pub guid: Option<Guid>,
    /// Gateway addresses on it.
    pub gateways: Vec<IpNet>,
    /// How many interfaces are plugged into it.
    pub members: usize,
}

/// An attachment as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedAttachment {
    /// Which one.
    pub id: AttachmentId,
    /// The namespace made for it (HCN).
    pub namespace: Option<Guid>,
    /// Whether the container still exists, with its interfaces in their places.
    pub alive: bool,
}
