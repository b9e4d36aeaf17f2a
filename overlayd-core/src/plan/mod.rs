//! From what was asked for to what the host should look like. Pure: no clock, no I/O, no backend; the tests below pin
//! the output.

mod dns;

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use self::dns::{DnsConfig, DnsListen, MOST_ADDRESSES, Naming, ServeDns, ServiceNames, deployment_zone, dns};
use crate::{
    contract::{
        AttachPlan, AttachmentId, ContainerRoute, DeviceMtu, DevicePlan, Egress, FencePlan, Inbound, InterfacePlan,
        NetworkPlan, OverlayLink, PeerEndpoint, PeerPlan, Resolver, Target, Uplink,
    },
    desired::{AttachmentRecord, DedicatedRecord, Desired, EdgeRecord, OverlayRecord, PeerRecord, ServiceRecord},
    ipam::first_host,
    keys::{PrivateKey, PublicKey},
    names::{InvalidLinkName, LinkName},
};

/// MTU of local networks while no overlay device says otherwise (1500 less the overhead of WireGuard over IPv6).
pub const DEFAULT_MTU: u16 = 1420;

/// The device of the global overlay: the node's address with the mask of the whole cluster, whose connected route
/// takes everything that is not on a local network to the peers, and the addresses of processes on the host itself.
pub fn global_device(desired: &Desired, overlay: &OverlayRecord, private_key: PrivateKey) -> DevicePlan {
    let node_ip = with_prefix(first_host(&desired.slice()), overlay.cluster.prefix_len());
    DevicePlan {
        name: overlay.device.clone(),
        private_key,
        listen_port: overlay.port,
        addresses: std::iter::once(node_ip).chain(desired.host_aliases().map(IpNet::from)).collect(),
        routes: vec![],
        mtu: DeviceMtu::FromUnderlay,
    }
}

/// The device of a dedicated service: the gateway's address alone, because the block itself is on the bridge, and a
/// route to every block behind its peers, because nothing else leads there.
pub fn dedicated_device(
    desired: &Desired,
    name: &str,
    service: &ServiceRecord,
    dedicated: &DedicatedRecord,
    private_key: PrivateKey,
) -> DevicePlan {
    let behind: BTreeSet<IpNet> =
        desired.peers_of(Some(name)).flat_map(|(_, peer)| peer.allowed_ips.iter().copied()).collect();
    DevicePlan {
        name: dedicated.device.clone(),
        private_key,
        listen_port: dedicated.port,
        addresses: vec![IpNet::from(first_host(&service.block))],
        routes: behind.into_iter().collect(),
        mtu: DeviceMtu::FromUnderlay,
    }
}

/// A peer of a device.
pub fn peer(public_key: PublicKey, record: &PeerRecord, endpoint: PeerEndpoint) -> PeerPlan {
    PeerPlan {
        public_key,
        preshared_key: None,
        endpoint,
        allowed_ips: record.allowed_ips.clone(),
        keepalive: record.keepalive,
    }
}

/// The local network of a service.
pub fn network(desired: &Desired, service: &ServiceRecord, mtu: u16) -> NetworkPlan {
    let own = service.dedicated.as_ref().map(|dedicated| &dedicated.device);
    let devices: Vec<LinkName> =
        desired.overlay().map(|overlay| &overlay.device).into_iter().chain(own).cloned().collect();
    let overlay = (!devices.is_empty()).then(|| OverlayLink { devices, ranges: vec![desired.cluster().trunc()] });
    NetworkPlan {
        name: service.network.clone(),
        guid: service.guid.clone(),
        gateways: vec![with_prefix(first_host(&service.block), service.block.prefix_len())],
        mtu,
        egress: Egress::Masquerade,
        overlay,
    }
}

/// What an attachment needs of the host: for a container `eth0` on the service's network with the default route, and
/// `eth1` toward the whole overlay when it holds a global lease; for all of them the fence and the ports. `None` when
/// its service is not set up.
pub fn attachment(
    desired: &Desired,
    record: &AttachmentRecord,
    mtu: u16,
    inbound: Inbound,
) -> Result<Option<AttachPlan>, InvalidLinkName> {
    let mut interfaces = vec![];
    if !matches!(record.target, Target::Address(_)) {
        let Some(service) = desired.service(&record.service) else { return Ok(None) };
        interfaces.push(service_leg(record, service, mtu)?);
    }
    if let (Some(ip), Some(overlay), Some(source)) = (record.global_ip, desired.overlay(), desired.node_ip()) {
        interfaces.push(global_leg(&record.id, ip, overlay, source, mtu)?);
    }
    let resolver = desired.resolver();
    let fence = record.isolation.as_ref().map(|network| FencePlan {
        network: network.clone(),
        reachable: desired.node_ip().map(IpNet::from).into_iter().collect(),
        overlay: vec![desired.cluster().trunc()],
        inbound,
    });
    Ok(Some(AttachPlan {
        id: record.id.clone(),
        target: record.target.clone(),
        known: record.identity.clone(),
        interfaces,
        resolver: resolver.server.map(|server| Resolver { server, domain: resolver.domain.clone() }),
        fence,
        ports: record.ports.clone(),
    }))
}

/// The fence around an edge peer: this node, what it was granted, and the resolver. `None` for one that was granted
/// the whole overlay.
pub fn edge(desired: &Desired, name: &str, edge: &EdgeRecord) -> Option<AttachPlan> {
    if edge.allowed.is_empty() {
        return None;
    }
    let fence = FencePlan {
        network: format!("edge:{name}"),
        reachable: edge_ranges(desired, edge),
        overlay: vec![desired.cluster().trunc()],
        inbound: Inbound::Anyone,
    };
    Some(AttachPlan {
        id: AttachmentId::Edge(name.to_owned()),
        target: Target::Address(edge.ip),
        known: None,
        interfaces: vec![],
        resolver: None,
        fence: Some(fence),
        ports: vec![],
    })
}

/// What an edge peer routes to this node: its grants, this node and the resolver, or the whole overlay.
pub fn edge_ranges(desired: &Desired, edge: &EdgeRecord) -> Vec<IpNet> {
    if edge.allowed.is_empty() {
        return vec![desired.cluster().trunc()];
    }
    let mut ranges = edge.allowed.clone();
    ranges.extend(desired.node_ip().map(IpNet::from));
    ranges.extend(desired.resolver().server.map(IpNet::from));
    let mut seen = BTreeSet::new();
    ranges.retain(|range| seen.insert(*range));
    ranges
}

fn service_leg(record: &AttachmentRecord, service: &ServiceRecord, mtu: u16) -> Result<InterfacePlan, InvalidLinkName> {
    Ok(InterfacePlan {
        name: LinkName::new("eth0")?,
        host_name: host_end(&record.id, 's')?,
        address: with_prefix(record.service_ip, service.block.prefix_len()),
        routes: vec![ContainerRoute {
            destination: default_route(&service.block),
            gateway: Some(first_host(&service.block)),
        }],
        mtu,
        uplink: Uplink::Network(service.network.clone()),
    })
}

fn global_leg(
    id: &AttachmentId,
    ip: IpAddr,
    overlay: &OverlayRecord,
    source: IpAddr,
    mtu: u16,
) -> Result<InterfacePlan, InvalidLinkName> {
    Ok(InterfacePlan {
        name: LinkName::new("eth1")?,
        host_name: host_end(id, 'g')?,
        address: IpNet::from(ip),
        routes: vec![ContainerRoute { destination: overlay.cluster.trunc(), gateway: None }],
        mtu,
        uplink: Uplink::Routed { source, overlay: overlay.device.clone() },
    })
}

/// Name of the host's end of a container interface. `leg` is `s` for the service's and `g` for the global one.
pub fn host_end(id: &AttachmentId, leg: char) -> Result<LinkName, InvalidLinkName> {
    use std::hash::Hasher;
    if let AttachmentId::Process(pid) = id {
        return LinkName::new(format!("veth-{pid}-{leg}"));
    }
    let mut hasher = siphasher::sip::SipHasher13::new();
    hasher.write(id.to_string().as_bytes());
    LinkName::new(format!("vns-{:.8}-{leg}", format!("{:016x}", hasher.finish())))
}

fn with_prefix(ip: IpAddr, prefix: u8) -> IpNet {
    match ip {
        IpAddr::V4(ip) => Ipv4Net::new_assert(ip, prefix).into(),
        IpAddr::V6(ip) => Ipv6Net::new_assert(ip, prefix).into(),
    }
}

fn default_route(family: &IpNet) -> IpNet {
    match family {
        IpNet::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpNet::V6(_) => IpNet::V6(Ipv6Net::default()),
    }
}

#[cfg(test)]
mod tests;
