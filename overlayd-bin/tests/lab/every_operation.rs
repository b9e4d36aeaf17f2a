//! All operations of the protocol, each twice as an orchestrator that reconnects would send it, and then a host that is as
//! it was.
//!
//! ```text
//!   5 containers, a guest, a host process, an edge ── host 0 ════ switch ════ a peer that never speaks
//! ```

use overlayd_core::{
    keys::PrivateKey,
    protocol::{AttachContainer, AttachHandle, OverlayMode, PeerScope, PeerSpec, Request, Response},
};
use overlayd_testkit::lab::{self, Client, Cluster, Namespace, Underlay, attach_request, probe::pings};

use crate::container;

/// Services by their modes.
const SERVICES: [(&str, OverlayMode); 4] = [
    ("web", OverlayMode::Auto),
    ("common", OverlayMode::Shared),
    ("ledger", OverlayMode::Dedicated),
    ("jobs", OverlayMode::Isolated),
];

#[test]
fn every_operation_twice_and_nothing_is_left() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    let before = host.facts();
    let mut client = host.start();
    set_up(&mut client);
    addresses(&mut client);
    let containers: Vec<Namespace> = (0..5).map(|_| container()).collect();
    attach(&mut client, &containers);
    peers(&mut client);
    edges(&mut client);
    names_and_nat(&mut client);
    detach(&mut client, &containers);
    tear_down(&mut client);
    assert_eq!(client.ask(Request::Shutdown), Response::Ok);
    assert!(host.wait().success());
    host.comes_back_to(&before);
}

/// Sends the request twice; both replies are the same kind of success, and the second is returned.
#[track_caller]
fn twice(client: &mut Client, request: &Request) -> Response {
    let first = client.ask(request.clone());
    let second = client.ask(request.clone());
    assert_eq!(first.result(), second.result(), "{request:?}");
    second
}

/// Sends the request twice; both are refused with a reason.
#[track_caller]
fn refused_twice(client: &mut Client, request: &Request) {
    for _ in 0..2 {
        let reply = client.call(request.clone()).expect("an answer");
        let Response::Err { message } = reply else { panic!("{request:?} was answered {reply:?}") };
        assert!(!message.is_empty());
    }
}

fn set_up(client: &mut Client) {
    twice(client, &Request::SetLocalNodeId { node_id: 0 });
    twice(client, &Request::SetLocalWgPubkey { pubkey: key(1) });
    let name = twice(client, &Cluster::V4.setup(0));
    assert_eq!(name, Response::BridgeName { name: "zl-lab-n0-g".into() });
    for (service, mode) in SERVICES {
        let info = twice(client, &Request::SetupServiceOverlay { service: service.into(), mode });
        let Response::ServiceOverlay(info) = info else { panic!("{info:?}") };
        let told = if mode == OverlayMode::Isolated { OverlayMode::Auto } else { mode };
        assert_eq!(info.mode, told, "{service}");
    }
    assert_eq!(client.status().service_count, 4);
}

fn addresses(client: &mut Client) {
    let ask = Request::AllocateIp { service: "web".into(), join_global: false };
    let (Response::Ip { ip: one }, Response::Ip { ip: two }) = (client.ask(ask.clone()), client.ask(ask)) else {
        panic!("addresses are given")
    };
    assert_ne!(one, two, "an address is given once");
    for ip in [one, two] {
        twice(client, &Request::ReleaseIp { ip });
    }
}

fn attach(client: &mut Client, containers: &[Namespace]) {
    for (request, container) in container_requests(containers).iter().zip(containers) {
        let Response::Attached(attached) = twice(client, request) else { panic!("{request:?}") };
        let gateway = gateway_of(client, request);
        assert!(pings(container, gateway), "{} does not reach {gateway}", attached.ip);
    }
    let guest = attach_of(AttachHandle::GuestManaged { id: "vm-1".into() }, "web");
    let Response::GuestConfig(config) = twice(client, &Request::AttachContainer(guest)) else { panic!("a guest") };
    assert_eq!(config.peers.len(), 1);
    let process = attach_of(AttachHandle::HostShared { id: "agent".into() }, "web");
    twice(client, &Request::AttachContainer(process));
    let windows = AttachHandle::WindowsContainer { container_id: "wc-1".into(), ip: None };
    refused_twice(client, &Request::AttachContainer(attach_of(windows, "web")));
}

/// One container for each service; the first also on the whole overlay, and one more by its namespace.
fn container_requests(containers: &[Namespace]) -> Vec<Request> {
    let by_pid = |number: usize| {
        let service = SERVICES[number].0;
        let Request::AttachContainer(plain) = attach_request(containers[number].pid(), service) else {
            panic!("an attach")
        };
        AttachContainer { join_global: number == 0, ..plain }
    };
    let path = format!("/proc/{}/ns/net", containers[4].pid());
    let by_path = attach_of(AttachHandle::LinuxNetns { id: "by-path".into(), path }, "web");
    (0..4).map(by_pid).chain([by_path]).map(Request::AttachContainer).collect()
}

fn attach_of(handle: AttachHandle, service: &str) -> AttachContainer {
    let Request::AttachContainer(plain) = attach_request(0, service) else { panic!("an attach") };
    AttachContainer { handle, ..plain }
}

fn gateway_of(client: &mut Client, request: &Request) -> std::net::IpAddr {
    let Request::AttachContainer(attach) = request else { panic!("an attach") };
    let services = client.status().services;
    let service = services.iter().find(|service| service.service == attach.service).expect("it is set up");
    let block: ipnet::IpNet = service.subnet.parse().expect("a block");
    block.hosts().next().expect("a block has hosts")
}

fn peers(client: &mut Client) {
    let dedicated = PeerScope::Service { service: "ledger".into() };
    for (number, scope) in [(2, PeerScope::Global), (3, dedicated)] {
        let (pubkey, cidr) = (key(number), format!("10.77.{}.0/26", 230 + u16::from(number)));
        let peer = PeerSpec {
            public_key: pubkey.clone(),
            endpoint: "192.0.2.200:51820".into(),
            allowed_ips: format!("10.77.{}.0/26", 240 + u16::from(number)),
            persistent_keepalive_secs: 25,
            candidates: Vec::new(),
        };
        twice(client, &Request::AddPeer { peer, scope: scope.clone() });
        let add = Request::AddAllowedIp { pubkey: pubkey.clone(), cidr: cidr.clone(), scope: scope.clone() };
        twice(client, &add);
        twice(client, &Request::RemoveAllowedIp { pubkey: pubkey.clone(), cidr, scope: scope.clone() });
        if scope == PeerScope::Global {
            twice(client, &Request::RemovePeer { pubkey, scope });
        }
    }
}

fn edges(client: &mut Client) {
    let mint = Request::MintEdgePeer {
        name: "laptop".into(),
        ttl_secs: 600,
        allow: Vec::new(),
        node_endpoint: "192.0.2.1:51820".into(),
    };
    assert!(matches!(client.ask(mint.clone()), Response::EdgeConfig(_)));
    // A second key for the same name would leave two laptops; the orchestrator revokes first.
    refused_twice(client, &mint);
    let Response::EdgePeers { peers } = twice(client, &Request::ListEdgePeers) else { panic!("a list") };
    assert_eq!(peers.len(), 1);
    twice(client, &Request::RevokeEdgePeer { name: "laptop".into() });
    let Response::EdgePeers { peers } = client.ask(Request::ListEdgePeers) else { panic!("a list") };
    assert!(peers.is_empty());
}

fn names_and_nat(client: &mut Client) {
    let ip = "10.77.0.9".parse().expect("an address");
    twice(client, &Request::RegisterDns { name: "web.lab.local".into(), ip });
    twice(client, &Request::UnregisterDns { name: "web.lab.local".into() });
    let zone = "lab.local".to_owned();
    refused_twice(client, &Request::WriteScopedResolver { zone: zone.clone(), node_ip: ip, port: None });
    refused_twice(client, &Request::RemoveScopedResolver { zone });
    twice(client, &Request::NatTick);
    twice(client, &Request::NatStatus);
    twice(client, &Request::Status);
    let pruned = twice(client, &Request::PruneOrphanBridges { live_bridge_names: Vec::new() });
    assert_eq!(pruned, Response::PrunedBridges { reclaimed: Vec::new() }, "every network has members");
}

fn detach(client: &mut Client, containers: &[Namespace]) {
    let by_pid = containers.iter().take(4).map(|container| AttachHandle::LinuxPid { pid: container.pid() });
    let others = [
        AttachHandle::LinuxNetns { id: "by-path".into(), path: String::new() },
        AttachHandle::GuestManaged { id: "vm-1".into() },
        AttachHandle::HostShared { id: "agent".into() },
    ];
    for handle in by_pid.chain(others) {
        twice(client, &Request::DetachContainer { handle });
    }
    let attached: u32 = client.status().services.iter().map(|service| service.attachments).sum();
    assert_eq!(attached, 0);
}

fn tear_down(client: &mut Client) {
    for (service, _) in SERVICES {
        twice(client, &Request::TeardownServiceOverlay { service: service.into() });
    }
    twice(client, &Request::TeardownGlobalOverlay);
    assert_eq!(client.status().service_count, 0);
}

fn key(seed: u8) -> String {
    PrivateKey::from_bytes([seed; 32]).public_key().to_base64()
}
