//! What is remembered: one record per thing that was asked for, and the one way to change them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{DeviceScope, EdgeAccess};
use crate::{
    contract::{AttachmentId, Guid, NetworkName, PortPlan, Target, TargetIdentity},
    keys::PublicKey,
    names::LinkName,
    protocol::{NatCandidateWire, NatConfigSpec, OverlayMode},
};

/// Who this node is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Cluster-wide number, the partition key of service blocks.
    pub node_id: Option<u64>,
    /// Public key as the orchestrator announced it; kept, not used.
    pub announced_pubkey: Option<String>,
}

/// The global overlay as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayRecord {
    /// First part of all names.
    pub deployment: String,
    /// Second part of all names.
    pub instance_id: String,
    /// The whole overlay; host bits stay as given.
    pub cluster: IpNet,
    /// This node's part of it; host bits stay as given.
    pub slice: Option<IpNet>,
    /// UDP port of the device.
    pub port: u16,
    /// NAT traversal as asked for; `None` means the built-in defaults, enabled.
    pub nat: Option<NatConfigSpec>,
    /// The device that carries it.
    pub device: LinkName,
}

/// A service that was set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Mode as asked for.
    pub mode: OverlayMode,
    /// Its block on this node; shared services have that of [`SHARED_SERVICE`].
    pub block: IpNet,
    /// What its containers attach to.
    pub network: NetworkName,
    /// The host's identity for the network (HCN).
    pub guid: Option<Guid>,
    /// Its own device, in dedicated mode.
    pub dedicated: Option<DedicatedRecord>,
    /// Who decides when it goes.
    pub lifetime: Lifetime,
}

/// The reserved name under which the bridge of all shared services has its block.
pub const SHARED_SERVICE: &str = "__zlayer_shared_bridge__";

/// A device of a service's own. Its private key is in the keyring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedicatedRecord {
    /// The device.
    pub device: LinkName,
    /// Its UDP port.
    pub port: u16,
    /// The service's identity.
    pub public_key: PublicKey,
}

/// Who decides when a service goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifetime {
    /// Only ephemeral containers have used it so far: it goes with the last of them.
    UntilEmpty,
    /// The last of its ephemeral containers has left: it is to be removed, unless another container uses it first.
    Left,
    /// A lasting container has used it: it stays until it is torn down.
    Kept,
}

/// One container's attachment; it holds the leases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentRecord {
    /// Names its host objects.
    pub id: AttachmentId,
    /// Where the container is.
    pub target: Target,
    /// The service it belongs to.
    pub service: String,
    /// The address it was told: a lease from the service's block, or from the slice for what is on no network.
    pub service_ip: IpAddr,
    /// Lease from the slice, for the global leg.
    pub global_ip: Option<IpAddr>,
    /// The isolation network it is a member of.
    pub isolation: Option<String>,
    /// Ports of the host that lead to it.
    pub ports: Vec<PortPlan>,
    /// The identity issued to it, for a guest.
    pub issued: Option<PeerId>,
    /// Which container the handle meant, known once it is plugged in.
    pub identity: Option<TargetIdentity>,
    /// The namespace the host made for it (HCN).
    pub namespace: Option<Guid>,
    /// How far it is.
    pub phase: Phase,
}

impl AttachmentRecord {
    /// Whether the host holds anything of it: interfaces, a fence or ports.
    pub fn has_host_objects(&self) -> bool {
        !matches!(self.target, Target::Address(_)) || self.isolation.is_some() || !self.ports.is_empty()
    }
}

/// How far an attachment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Asked for, and plugged in or about to be.
    Wanted,
    /// Refused or unplugged, but the host could not be cleaned yet; the leases stay until it is.
    Leaving,
}

/// A peer of a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId {
    /// The device that it is on.
    #[serde(rename = "service")]
    pub scope: DeviceScope,
    /// Who.
    pub public_key: PublicKey,
}

/// A peer as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    /// Where it was said to be.
    pub endpoint: EndpointSpec,
    /// Ranges behind it, without host bits, in the order given.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between keepalives; `None` is off.
    pub keepalive: Option<NonZeroU16>,
    /// Other addresses it may have.
    pub candidates: Vec<NatCandidateWire>,
    /// Who brought it.
    pub origin: Origin,
}

/// Who brought a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The orchestrator: another node.
    Asked,
    /// This daemon: an identity it issued to a guest or to an edge.
    Issued,
}

/// Where a peer was said to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointSpec {
    /// Not known: it has to speak first.
    Roaming,
    /// An address.
    Address(SocketAddr),
    /// A host name, resolved now and again.
    Name {
        /// Host name.
        host: String,
        /// UDP port.
        port: u16,
    },
}

/// A peer outside of the cluster that was let in for a while. Its private key is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeRecord {
    /// Its lease from the slice.
    pub ip: IpAddr,
    /// Its identity.
    pub public_key: PublicKey,
    /// Unix second of its minting.
    pub minted_at: u64,
    /// Unix second from which it is no longer let in.
    pub expires_at: u64,
    /// What it may reach.
    #[serde(rename = "allowed")]
    pub access: EdgeAccess,
}

/// The resolver that containers were last told to use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverRecord {
    /// Server, port 53.
    pub server: Option<IpAddr>,
    /// Search domain.
    pub domain: Option<String>,
}

/// One change of one record: its new content, or `None` to forget it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Who this node is.
    Node(Option<NodeRecord>),
    /// The global overlay.
    Overlay(Option<OverlayRecord>),
    /// The remembered resolver.
    Resolver(Option<ResolverRecord>),
    /// A service.
    Service(String, Option<ServiceRecord>),
    /// An attachment.
    Attachment(AttachmentId, Option<AttachmentRecord>),
    /// An address leased by `allocate_ip`, and the service it was for.
    Allocation(IpAddr, Option<String>),
    /// An address that rests until this Unix second.
    Rest(IpAddr, Option<u64>),
    /// A peer.
    Peer(PeerId, Option<PeerRecord>),
    /// The addresses of a name.
    Dns(String, Option<BTreeSet<IpAddr>>),
    /// An edge peer.
    Edge(String, Option<EdgeRecord>),
    /// The UDP port that a dedicated service had under an earlier daemon, set up or not.
    DedicatedPort(String, Option<u16>),
}

impl Change {
    /// The record's key in the store; each kind has a prefix of its own.
    pub fn key(&self) -> String {
        match self {
            Self::Node(_) => "node".into(),
            Self::Overlay(_) => "overlay".into(),
            Self::Resolver(_) => "resolver".into(),
            Self::Service(name, _) => format!("service/{name}"),
            Self::Attachment(handle, _) => format!("attachment/{handle}"),
            Self::Allocation(ip, _) => format!("allocation/{ip}"),
            Self::Rest(ip, _) => format!("rest/{ip}"),
            Self::Peer(id, _) => {
                format!("peer/{}@{}", id.public_key, id.scope.service_name().unwrap_or_default())
            }
            Self::Dns(name, _) => format!("dns/{name}"),
            Self::Edge(name, _) => format!("edge/{name}"),
            Self::DedicatedPort(name, _) => format!("dedicated_port/{name}"),
        }
    }

    /// Whether the change forgets its record.
    pub fn forgets(&self) -> bool {
        match self {
            Self::Node(record) => record.is_none(),
            Self::Overlay(record) => record.is_none(),
            Self::Resolver(record) => record.is_none(),
            Self::Service(_, record) => record.is_none(),
            Self::Attachment(_, record) => record.is_none(),
            Self::Allocation(_, record) => record.is_none(),
            Self::Rest(_, record) => record.is_none(),
            Self::Peer(_, record) => record.is_none(),
            Self::Dns(_, record) => record.is_none(),
            Self::Edge(_, record) => record.is_none(),
            Self::DedicatedPort(_, record) => record.is_none(),
        }
    }
}
