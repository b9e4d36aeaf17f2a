use std::net::SocketAddr;

use ipnet::IpNet;
use overlayd_core::protocol::{OverlayMode, PeerScope, PeerSpec, Request, SetupGlobalOverlay};

use super::{Host, LabClient};

/// Ranges and ports of a cluster; what an orchestrator decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabCluster {
    /// 10.77.0.0/16, node `n` has the slice 10.77.(4n).0/26.
    V4,
    /// fd77::/48, node `n` has the slice fd77:0:0:n::/64.
    V6,
}

/// What an orchestrator knows of a node that is set up.
#[derive(Debug, Clone)]
pub struct Node {
    /// WireGuard key, base64.
    pub public_key: String,
    /// WireGuard's UDP address on the underlay.
    pub endpoint: SocketAddr,
    /// The ranges behind the node: its slice, and its block of each service.
    pub ranges: Vec<IpNet>,
    /// Name of its device.
    pub device: String,
}

/// UDP port of every node's device.
const PORT: u16 = 51820;

impl LabCluster {
    /// The whole range.
    pub fn cidr(self) -> &'static str {
        match self {
            Self::V4 => "10.77.0.0/16",
            Self::V6 => "fd77::/48",
        }
    }

    /// The slice of a node.
    pub fn slice(self, node: usize) -> String {
        match self {
            Self::V4 => format!("10.77.{}.0/26", 4 * node),
            Self::V6 => format!("fd77:0:0:{node:x}::/64"),
        }
    }

    /// The request that brings a node's overlay up.
    pub fn setup(self, node: usize) -> Request {
        Request::SetupGlobalOverlay(SetupGlobalOverlay {
            deployment: "lab".into(),
            instance_id: format!("n{node}"),
            cluster_cidr: self.cidr().into(),
            slice_cidr: Some(self.slice(node)),
            wg_port: PORT,
            host_adapter_mandatory: true,
            nat: Some(overlayd_core::protocol::NatConfigSpec { enabled: false, ..Default::default() }),
        })
    }

    /// Sets a node up with these services, as an orchestrator does; `underlay` is the address that others reach it by.
    pub fn raise(self, client: &mut LabClient, node: usize, services: &[&str], underlay: std::net::IpAddr) -> Node {
        client.ok(Request::SetLocalNodeId { node_id: node as u64 });
        client.ask(self.setup(node));
        for service in services {
            client.ask(Request::SetupServiceOverlay { service: (*service).into(), mode: OverlayMode::Auto });
        }
        let status = client.status();
        let blocks = status
            .services
            .iter()
            .map(|service| service.subnet.as_deref().expect("a subnet").parse().expect("a block"));
        let ranges = std::iter::once(self.slice(node).parse().expect("a slice")).chain(blocks).collect();
        Node {
            public_key: status.public_key.expect("a node has a key"),
            endpoint: SocketAddr::new(underlay, PORT),
            ranges,
            device: status.interface.expect("a node has a device"),
        }
    }

    /// Brings all hosts up with these services, each a peer of each; `address` chooses the underlay's family.
    pub fn join(self, hosts: &mut [Host], services: &[&str], address: fn(&Host) -> std::net::IpAddr) -> Vec<Node> {
        let nodes: Vec<Node> = hosts
            .iter_mut()
            .enumerate()
            .map(|(number, host)| {
                let underlay = address(host);
                self.raise(&mut host.start(), number, services, underlay)
            })
            .collect();
        for (number, host) in hosts.iter().enumerate() {
            let mut client = host.client();
            for (_, other) in nodes.iter().enumerate().filter(|(other, _)| *other != number) {
                client.ok(other.as_peer());
            }
        }
        nodes
    }
}

impl Node {
    /// The request that makes this node a peer of another.
    pub fn as_peer(&self) -> Request {
        let ranges: Vec<String> = self.ranges.iter().map(IpNet::to_string).collect();
        Request::AddPeer {
            peer: PeerSpec {
                public_key: self.public_key.clone(),
                endpoint: self.endpoint.to_string(),
                allowed_ips: ranges.join(","),
                persistent_keepalive_secs: 0,
                candidates: Vec::new(),
            },
            scope: PeerScope::Global,
        }
    }
}
