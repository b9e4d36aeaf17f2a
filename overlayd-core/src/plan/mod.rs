//! From what was asked for to what the host should look like. Pure: no clock, no I/O, no backend; the tests below pin
//! the output.

mod dns;

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use self::dns::{DnsConfig, DnsListen, MOST_ADDRESSES, Naming, ServeDns, ServiceNames, deployment_zone, dns};
use crate::{
    contract::{
        AttachPlan, AttachmentId, DeviceMtu, DevicePlan, Egress, FencePlan, Inbound, NetworkPlan, OverlayLeg,
        OverlayLink, PeerEndpoint, PeerPlan, Resolver, ServiceLeg, Target,
    },
    desired::{
        AttachmentRecord, DedicatedRecord, Desired, DeviceScope, EdgeAccess, EdgeRecord, OverlayRecord, PeerRecord,
        ServiceRecord,
    },
    ipam::first_host,
    keys::{PrivateKey, PublicKey},
    names::LinkName,
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
        desired.peers_of(DeviceScope::service(name)).flat_map(|(_, peer)| peer.allowed_ips.iter().copied()).collect();
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

/// What an attachment needs of the host: for a container its leg on the service's network, and one on the overlay when
/// it holds a global lease; for all of them the fence and the ports. `None` when its service is not set up.
pub fn attachment(desired: &Desired, record: &AttachmentRecord, mtu: u16, inbound: Inbound) -> Option<AttachPlan> {
    let service = match record.target {
        // A guest or a process of the host has no namespace to plug into.
        Target::Address(_) => None,
        Target::Process(_) | Target::Namespace(_) | Target::Compute(_) => {
            Some(service_leg(record, desired.service(&record.service)?, mtu))
        }
    };
    let resolver = desired.resolver();
    let fence = record.isolation.as_ref().map(|network| FencePlan {
        network: network.clone(),
        reachable: desired.node_ip().map(IpNet::from).into_iter().collect(),
        overlay: vec![desired.cluster().trunc()],
        inbound,
    });
    Some(AttachPlan {
        id: record.id.clone(),
        target: record.target.clone(),
        known: record.identity.clone(),
        service,
        overlay: overlay_leg(desired, record, mtu),
        resolver: resolver.server.map(|server| Resolver { server, domain: resolver.domain.clone() }),
        fence,
        ports: record.ports.clone(),
    })
}

/// The fence around an edge peer: this node, what it was granted, and the resolver. `None` for one that was granted
/// the whole overlay.
pub fn edge(desired: &Desired, name: &str, edge: &EdgeRecord) -> Option<AttachPlan> {
    match &edge.access {
        EdgeAccess::WholeOverlay => return None,
        EdgeAccess::Only(_) => {}
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
        service: None,
        overlay: None,
        resolver: None,
        fence: Some(fence),
        ports: vec![],
    })
}

/// What an edge peer routes to this node: its grants, this node and the resolver, or the whole overlay.
pub fn edge_ranges(desired: &Desired, edge: &EdgeRecord) -> Vec<IpNet> {
    let mut ranges = match &edge.access {
        EdgeAccess::WholeOverlay => return vec![desired.cluster().trunc()],
        EdgeAccess::Only(granted) => granted.as_slice().to_vec(),
    };
    ranges.extend(desired.node_ip().map(IpNet::from));
    ranges.extend(desired.resolver().server.map(IpNet::from));
    let mut seen = BTreeSet::new();
    ranges.retain(|range| seen.insert(*range));
    ranges
}

fn service_leg(record: &AttachmentRecord, service: &ServiceRecord, mtu: u16) -> ServiceLeg {
    ServiceLeg {
        network: service.network.clone(),
        address: with_prefix(record.service_ip, service.block.prefix_len()),
        gateway: first_host(&service.block),
        mtu,
    }
}

/// A record may outlive the overlay it was made under; until there is one again, the container has no such leg.
fn overlay_leg(desired: &Desired, record: &AttachmentRecord, mtu: u16) -> Option<OverlayLeg> {
    let overlay = desired.overlay()?;
    Some(OverlayLeg {
        address: record.global_ip?,
        range: overlay.cluster.trunc(),
        source: desired.node_ip()?,
        device: overlay.device.clone(),
        mtu,
    })
}

fn with_prefix(ip: IpAddr, prefix: u8) -> IpNet {
    match ip {
        IpAddr::V4(ip) => Ipv4Net::new_assert(ip, prefix).into(),
        IpAddr::V6(ip) => Ipv6Net::new_assert(ip, prefix).into(),
    }
}

#[cfg(test)]
mod tests;
