//! The small world that random sequences are made of, and how they are made.

use std::net::IpAddr;

use overlayd_core::{
    contract::PortProtocol,
    keys::{PrivateKey, PublicKey},
    protocol::{
        AttachContainer, AttachHandle, OverlayMode, PeerScope, PeerSpec, PortSpec, Request, SetupGlobalOverlay,
    },
};
use proptest::prelude::*;

const SERVICES: [&str; 3] = ["web", "db", "jobs"];
/// Names of the containers, as if they were process ids.
pub const CONTAINERS: std::ops::Range<u32> = 7..11;
const EDGES: [&str; 2] = ["laptop", "phone"];
const NAMES: [&str; 2] = ["one", "two"];
const RANGES: [&str; 3] = ["10.77.8.0/26", "10.77.9.0/26", "10.77.10.0/26"];
const PORTS: [u16; 2] = [8080, 9090];

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRequest {
    /// `setup_global_overlay`.
    SetUp,
    /// `teardown_global_overlay`.
    TearDown,
    /// `setup_service_overlay`.
    SetUpService(&'static str, OverlayMode),
    /// `teardown_service_overlay`.
    TearDownService(&'static str),
    /// `attach_container`.
    Attach {
        /// Which container.
        pid: u32,
        /// To which service.
        service: &'static str,
        /// Whether it joins the global network.
        global: bool,
        /// Whether the service lasts no longer than its members.
        ephemeral: bool,
        /// Whether it is in an isolation network.
        fenced: bool,
    },
    /// `detach_container`.
    Detach(u32),
    /// `publish_ports`, one or none.
    Publish(u32, Option<u16>),
    /// `allocate_ip`.
    Allocate(&'static str),
    /// `release_ip` of one of the allocated addresses, counted round and round.
    Release(usize),
    /// `add_peer` with these ranges.
    AddPeer(u8, Vec<&'static str>),
    /// `remove_peer`.
    RemovePeer(u8),
    /// `add_allowed_ip`.
    AddRange(u8, &'static str),
    /// `remove_allowed_ip`.
    RemoveRange(u8, &'static str),
    /// `mint_edge_peer`, let into one service or none in particular.
    Mint(&'static str, Option<&'static str>),
    /// `revoke_edge_peer`.
    Revoke(&'static str),
    /// `register_dns`.
    Register(&'static str),
    /// `unregister_dns`.
    Unregister(&'static str),
}

/// What happens next.
#[derive(Debug, Clone)]
pub enum ModelStep {
    /// Clients ask at the same time, and whose turn it is follows from this number.
    Together(Vec<ModelRequest>, u64),
    /// The daemon ends at this point of the operation, counted round and round, and another one starts.
    Crash(ModelRequest, usize),
    /// A container ends.
    Ends(u32),
    /// A container starts, in the place of the one before.
    Starts(u32),
    /// Another program deletes the device.
    DeviceVanishes,
    /// Another program deletes this service's network.
    NetworkVanishes(&'static str),
    /// So many seconds pass.
    Wait(u64),
    /// The daemon looks after drift.
    Pass,
}

/// Sequences of steps.
pub fn steps() -> impl Strategy<Value = Vec<ModelStep>> {
    let together = (prop::collection::vec(op(), 1..4), any::<u64>());
    let step = prop_oneof![
        12 => together.prop_map(|(ops, turns)| ModelStep::Together(ops, turns)),
        3 => (op(), 0..40usize).prop_map(|(op, point)| ModelStep::Crash(op, point)),
        1 => CONTAINERS.prop_map(ModelStep::Ends),
        1 => CONTAINERS.prop_map(ModelStep::Starts),
        1 => Just(ModelStep::DeviceVanishes),
        1 => service().prop_map(ModelStep::NetworkVanishes),
        1 => (1..60u64).prop_map(ModelStep::Wait),
        1 => Just(ModelStep::Pass),
    ];
    prop::collection::vec(step, 1..24)
}

fn op() -> impl Strategy<Value = ModelRequest> {
    let key = || 1..4u8;
    let range = || prop::sample::select(&RANGES[..]);
    let attach = (CONTAINERS, service(), any::<[bool; 3]>()).prop_map(|(pid, service, [global, ephemeral, fenced])| {
        ModelRequest::Attach { pid, service, global, ephemeral, fenced }
    });
    prop_oneof![
        3 => Just(ModelRequest::SetUp),
        1 => Just(ModelRequest::TearDown),
        6 => (service(), mode()).prop_map(|(service, mode)| ModelRequest::SetUpService(service, mode)),
        1 => service().prop_map(ModelRequest::TearDownService),
        10 => attach,
        5 => CONTAINERS.prop_map(ModelRequest::Detach),
        3 => (CONTAINERS, prop::option::of(prop::sample::select(&PORTS[..]))).prop_map(|(pid, port)| ModelRequest::Publish(pid, port)),
        3 => prop::sample::select(&["web", "db", "jobs", "nowhere"][..]).prop_map(ModelRequest::Allocate),
        2 => (0..8usize).prop_map(ModelRequest::Release),
        3 => (key(), prop::collection::vec(range(), 0..3)).prop_map(|(key, ranges)| ModelRequest::AddPeer(key, ranges)),
        1 => key().prop_map(ModelRequest::RemovePeer),
        1 => (key(), range()).prop_map(|(key, range)| ModelRequest::AddRange(key, range)),
        1 => (key(), range()).prop_map(|(key, range)| ModelRequest::RemoveRange(key, range)),
        3 => (prop::sample::select(&EDGES[..]), prop::option::of(service())).prop_map(|(name, allow)| ModelRequest::Mint(name, allow)),
        2 => prop::sample::select(&EDGES[..]).prop_map(ModelRequest::Revoke),
        1 => prop::sample::select(&NAMES[..]).prop_map(ModelRequest::Register),
        1 => prop::sample::select(&NAMES[..]).prop_map(ModelRequest::Unregister),
    ]
}

fn service() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&SERVICES[..])
}

fn mode() -> impl Strategy<Value = OverlayMode> {
    prop_oneof![
        6 => Just(OverlayMode::Auto),
        1 => Just(OverlayMode::Shared),
        1 => Just(OverlayMode::Dedicated),
        1 => Just(OverlayMode::Isolated)
    ]
}

impl ModelRequest {
    /// The request; `allocated` are the addresses that were given out by themselves.
    pub fn request(&self, allocated: &[IpAddr]) -> Request {
        let key = |key: &u8| public_key(*key).to_base64();
        let process = |pid: &u32| AttachHandle::LinuxPid { pid: *pid };
        let scope = PeerScope::Global;
        match self {
            Self::SetUp => Request::SetupGlobalOverlay(SetupGlobalOverlay {
                deployment: "atlas".into(),
                instance_id: "n1".into(),
                cluster_cidr: "10.77.0.0/16".into(),
                // Small, so that addresses come to an end.
                slice_cidr: Some("10.77.4.0/28".into()),
                wg_port: 51820,
                ..SetupGlobalOverlay::default()
            }),
            Self::TearDown => Request::TeardownGlobalOverlay,
            Self::SetUpService(service, mode) => {
                Request::SetupServiceOverlay { service: (*service).into(), mode: *mode }
            }
            Self::TearDownService(service) => Request::TeardownServiceOverlay { service: (*service).into() },
            Self::Attach { pid, service, global, ephemeral, fenced } => Request::AttachContainer(AttachContainer {
                handle: process(pid),
                service: (*service).into(),
                join_global: *global,
                ephemeral: *ephemeral,
                isolation_network: fenced.then(|| "tenant".into()),
                dns_server: None,
                dns_domain: None,
            }),
            Self::Detach(pid) => Request::DetachContainer { handle: process(pid) },
            Self::Publish(pid, port) => Request::PublishPorts {
                handle: process(pid),
                ports: port.iter().map(|port| published(*port)).collect(),
            },
            Self::Allocate(service) => Request::AllocateIp { service: (*service).into(), join_global: false },
            // An address that was never allocated, where none is.
            Self::Release(_) => Request::ReleaseIp { ip: self.released(allocated).unwrap_or([10, 77, 200, 9].into()) },
            Self::AddPeer(number, ranges) => Request::AddPeer { peer: peer(*number, ranges), scope },
            Self::RemovePeer(number) => Request::RemovePeer { pubkey: key(number), scope },
            Self::AddRange(number, cidr) => Request::AddAllowedIp { pubkey: key(number), cidr: (*cidr).into(), scope },
            Self::RemoveRange(number, cidr) => {
                Request::RemoveAllowedIp { pubkey: key(number), cidr: (*cidr).into(), scope }
            }
            Self::Mint(name, allow) => Request::MintEdgePeer {
                name: (*name).into(),
                ttl_secs: 1 << 30,
                allow: allow.iter().map(|service| (*service).to_owned()).collect(),
                node_endpoint: "203.0.113.1:51820".into(),
            },
            Self::Revoke(name) => Request::RevokeEdgePeer { name: (*name).into() },
            Self::Register(name) => Request::RegisterDns { name: (*name).into(), ip: [10, 77, 4, 9].into() },
            Self::Unregister(name) => Request::UnregisterDns { name: (*name).into() },
        }
    }
}

fn peer(number: u8, ranges: &[&str]) -> PeerSpec {
    PeerSpec {
        public_key: public_key(number).to_base64(),
        endpoint: format!("198.51.100.{number}:51820"),
        allowed_ips: ranges.join(","),
        persistent_keepalive_secs: 25,
        candidates: vec![],
    }
}

fn published(host_port: u16) -> PortSpec {
    PortSpec { protocol: PortProtocol::Tcp, host_ip: None, host_port, host_port_end: None, container_port: 80 }
}

impl ModelRequest {
    /// The address that a release is about, of those that were allocated.
    pub(super) fn released(&self, allocated: &[IpAddr]) -> Option<IpAddr> {
        match self {
            Self::Release(number) if !allocated.is_empty() => Some(allocated[number % allocated.len()]),
            _ => None,
        }
    }
}

pub(super) fn public_key(number: u8) -> PublicKey {
    PrivateKey::from_bytes([number; 32]).public_key()
}
