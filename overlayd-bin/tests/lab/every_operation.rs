//! All operations of the published protocol and all additions, each twice as an orchestrator that reconnects would send it, and then a
//! host that is as it was.
//!
//! ```text
//!   6 containers, a guest, a host process, an edge ── host 0 ════ switch ════ a peer that never speaks
//! ```

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use overlayd_core::{
    contract::PortProtocol,
    keys::PrivateKey,
    protocol::{
        AttachContainer, AttachHandle, Hello, OverlayMode, PeerScope, PeerSpec, PortSpec, Request, Response,
        StatusSnapshot,
    },
};
use overlayd_testkit::{
    lab::{self, Host, LabClient, LabCluster, Namespace, Underlay, probe::pings},
    requests::{attach, process},
};

use crate::container;

/// Every operation: the 26 of the published protocol, and then ours.
const OPERATIONS: [&str; 28] = [
    "set_local_node_id",
    "set_local_wg_pubkey",
    "setup_global_overlay",
    "teardown_global_overlay",
    "setup_service_overlay",
    "teardown_service_overlay",
    "allocate_ip",
    "release_ip",
    "attach_container",
    "detach_container",
    "add_peer",
    "remove_peer",
    "add_allowed_ip",
    "remove_allowed_ip",
    "mint_edge_peer",
    "revoke_edge_peer",
    "list_edge_peers",
    "register_dns",
    "unregister_dns",
    "write_scoped_resolver",
    "remove_scoped_resolver",
    "prune_orphan_bridges",
    "status",
    "nat_tick",
    "nat_status",
    "shutdown",
    "hello",
    "publish_ports",
];

/// Services by their modes.
const SERVICES: [(&str, OverlayMode); 4] = [
    ("web", OverlayMode::Auto),
    ("common", OverlayMode::Shared),
    ("ledger", OverlayMode::Dedicated),
    ("jobs", OverlayMode::Isolated),
];

/// What stays of the daemon itself: its state, and the identities of the node and of the dedicated service.
const KEPT: [&str; 4] = ["overlayd.lock", "overlayd/keys/node.key", "overlayd/keys/service", "overlayd/state.redb"];

#[test]
fn every_operation_twice_and_nothing_is_left() {
    every_operation_twice(LabCluster::V4);
}

#[test]
fn every_operation_twice_in_ipv6_and_nothing_is_left() {
    every_operation_twice(LabCluster::V6);
}

fn every_operation_twice(cluster: LabCluster) {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let outside = &lab.core;
    let host = &mut lab.hosts[0];
    let before = host.facts();
    let mut walk = Walk { client: host.start(), cluster, sent: BTreeSet::new() };
    walk.set_up();
    walk.addresses();
    let containers: Vec<Namespace> = (0..6).map(|_| container()).collect();
    walk.attach(&containers);
    walk.publish(&containers[0], outside, host);
    walk.peers();
    walk.edges(host);
    walk.names_and_nat();
    walk.detach(&containers);
    walk.tear_down();
    host.comes_back_to(&before);
    walk.shut_down(host);
    host.comes_back_to(&before);
    let missing: Vec<_> = OPERATIONS.iter().filter(|op| !walk.sent.contains(*op)).collect();
    assert!(missing.is_empty(), "the walk left out {missing:?}");
    assert_eq!(files(&host.data_dir()), KEPT.map(String::from).into());
}

/// Every file below, by its path from there; those of services end in a hash of the service.
fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let path = path.strip_prefix(directory).expect("it is below").display().to_string();
                found.insert(path.split('-').next().unwrap_or_default().to_owned());
            }
        }
    }
    found
}

/// A client, and what it has asked for.
struct Walk {
    client: LabClient,
    cluster: LabCluster,
    sent: BTreeSet<&'static str>,
}

impl Walk {
    /// Sends the request twice; both replies are the same kind of success, and the second is returned.
    #[track_caller]
    fn twice(&mut self, request: &Request) -> Response {
        self.sent.insert(request.op());
        let first = self.client.ask(request.clone());
        let second = self.client.ask(request.clone());
        assert_eq!(first.result(), second.result(), "{request:?}");
        second
    }

    /// Sends the request twice; both are refused with a reason.
    #[track_caller]
    fn refused_twice(&mut self, request: &Request) {
        self.sent.insert(request.op());
        for _ in 0..2 {
            let reply = self.client.call(request.clone()).expect("an answer");
            let Response::Err { message, .. } = reply else { panic!("{request:?} was answered {reply:?}") };
            assert!(!message.is_empty());
        }
    }

    fn status(&mut self) -> StatusSnapshot {
        let Response::Status(status) = self.twice(&Request::Status) else { panic!("no status") };
        status
    }

    fn set_up(&mut self) {
        self.twice(&Request::Hello(Hello { client: Some("walk 1".into()), events: Vec::new() }));
        self.twice(&Request::SetLocalNodeId { node_id: 0 });
        self.twice(&Request::SetLocalWgPubkey { pubkey: key(1) });
        let name = self.twice(&self.cluster.setup(0));
        assert_eq!(name, Response::BridgeName { name: "zl-lab-n0-g".into() });
        for (service, mode) in SERVICES {
            let info = self.twice(&Request::SetupServiceOverlay { service: service.into(), mode });
            let Response::ServiceOverlay(info) = info else { panic!("{info:?}") };
            let told = if mode == OverlayMode::Isolated { OverlayMode::Auto } else { mode };
            assert_eq!(info.mode, told, "{service}");
        }
        assert_eq!(self.status().service_count, 4);
    }

    fn addresses(&mut self) {
        let ask = Request::AllocateIp { service: "web".into(), join_global: false };
        let (Response::Ip { ip: one }, Response::Ip { ip: two }) = (self.twice(&ask), self.twice(&ask)) else {
            panic!("addresses are given")
        };
        assert_ne!(one, two, "an address is given once");
        for ip in [one, two] {
            self.twice(&Request::ReleaseIp { ip });
        }
    }

    fn attach(&mut self, containers: &[Namespace]) {
        let node = self.status().node_ip.expect("a node has an address");
        for (request, container) in container_requests(containers).iter().zip(containers) {
            let Response::Attached(attached) = self.twice(request) else { panic!("{request:?}") };
            assert!(pings(container, node), "{} does not reach the node", attached.ip);
        }
        let guest = attach(AttachHandle::GuestManaged { id: "vm-1".into() }, "web");
        let fenced = AttachContainer { isolation_network: Some("job-88".into()), ..guest };
        let reply = self.twice(&Request::AttachContainer(fenced));
        let Response::GuestConfig(config) = reply else { panic!("{reply:?}") };
        assert_eq!(config.peers.len(), 1);
        let process = attach(AttachHandle::HostShared { id: "agent".into() }, "web");
        self.twice(&Request::AttachContainer(process));
        let windows = AttachHandle::WindowsContainer { container_id: "wc-1".into(), ip: None };
        self.refused_twice(&Request::AttachContainer(attach(windows, "web")));
    }

    /// A port of the host leads to the container, until it is published no more.
    fn publish(&mut self, container: &Namespace, outside: &Namespace, host: &Host) {
        let _listener = container.enter(|| TcpListener::bind("[::]:80")).expect("a free port");
        let address = if self.cluster == LabCluster::V4 { host.v4() } else { host.v6() };
        let connects = || {
            let to = SocketAddr::new(address, 8080);
            outside.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(3)).is_ok())
        };
        assert!(!connects());
        let port = |protocol, host_port, last| PortSpec {
            protocol,
            host_ip: None,
            host_port,
            host_port_end: last,
            container_port: host_port - 8000,
        };
        let tcp = PortSpec { container_port: 80, ..port(PortProtocol::Tcp, 8080, None) };
        let handle = process(container.pid());
        let publish = |ports| Request::PublishPorts { handle: handle.clone(), ports };
        self.twice(&publish(vec![tcp.clone(), port(PortProtocol::Udp, 9000, Some(9010))]));
        assert!(connects(), "a published port leads nowhere");
        self.twice(&publish(vec![]));
        assert!(!connects(), "an unpublished port leads somewhere");
        // It goes with the attachment.
        self.twice(&publish(vec![tcp]));
    }

    fn peers(&mut self) {
        let dedicated = PeerScope::Service { service: "ledger".into() };
        for (number, scope) in [(2, PeerScope::Global), (3, dedicated)] {
            let (pubkey, cidr) = (key(number), self.range(number));
            let peer = PeerSpec {
                public_key: pubkey.clone(),
                endpoint: "192.0.2.200:51820".into(),
                allowed_ips: self.range(10 + number),
                persistent_keepalive_secs: 25,
                candidates: Vec::new(),
            };
            self.twice(&Request::AddPeer { peer, scope: scope.clone() });
            self.twice(&Request::AddAllowedIp { pubkey: pubkey.clone(), cidr: cidr.clone(), scope: scope.clone() });
            self.twice(&Request::RemoveAllowedIp { pubkey: pubkey.clone(), cidr, scope: scope.clone() });
            if scope == PeerScope::Global {
                self.twice(&Request::RemovePeer { pubkey, scope });
            }
        }
    }

    /// A range of another node.
    fn range(&self, number: u8) -> String {
        match self.cluster {
            LabCluster::V4 => format!("10.77.{}.0/26", 230 + u16::from(number)),
            LabCluster::V6 => format!("fd77:0:0:ff{number:02x}::/64"),
        }
    }

    fn edges(&mut self, host: &Host) {
        let mint = |name: &str, allow: &[&str]| Request::MintEdgePeer {
            name: name.into(),
            ttl_secs: 600,
            allow: allow.iter().map(|&entry| entry.into()).collect(),
            node_endpoint: SocketAddr::new(host.v4(), 51820).to_string(),
        };
        for request in [mint("laptop", &[]), mint("phone", &["web"])] {
            assert!(matches!(self.client.ask(request.clone()), Response::EdgeConfig(_)));
            // A second key for the same name would leave two of them; the orchestrator revokes first.
            self.refused_twice(&request);
        }
        let Response::EdgePeers { peers } = self.twice(&Request::ListEdgePeers) else { panic!("a list") };
        assert_eq!(peers.len(), 2);
        assert!(host.run(&["nft", "list", "ruleset"]).contains("edge"), "an edge with grants is fenced");
        for name in ["laptop", "phone"] {
            self.twice(&Request::RevokeEdgePeer { name: name.into() });
        }
        let Response::EdgePeers { peers } = self.twice(&Request::ListEdgePeers) else { panic!("a list") };
        assert!(peers.is_empty());
        // What is left stays for the teardown.
        assert!(matches!(self.client.ask(mint("tablet", &["web"])), Response::EdgeConfig(_)));
    }

    fn names_and_nat(&mut self) {
        let ip: IpAddr = self.status().node_ip.expect("a node has an address");
        self.twice(&Request::RegisterDns { name: "web.lab.local".into(), ip });
        self.twice(&Request::UnregisterDns { name: "web.lab.local".into() });
        let zone = "lab.local".to_owned();
        self.refused_twice(&Request::WriteScopedResolver { zone: zone.clone(), node_ip: ip, port: None });
        self.refused_twice(&Request::RemoveScopedResolver { zone });
        self.twice(&Request::NatTick);
        self.twice(&Request::NatStatus);
        let pruned = self.twice(&Request::PruneOrphanBridges { live_bridge_names: Vec::new() });
        assert_eq!(pruned, Response::PrunedBridges { reclaimed: Vec::new() }, "every network has members");
    }

    fn detach(&mut self, containers: &[Namespace]) {
        let by_pid = containers.iter().take(5).map(|container| process(container.pid()));
        let others = [
            AttachHandle::LinuxNetns { id: "by-path".into(), path: String::new() },
            AttachHandle::GuestManaged { id: "vm-1".into() },
            AttachHandle::HostShared { id: "agent".into() },
            AttachHandle::WindowsContainer { container_id: "wc-1".into(), ip: None },
        ];
        for handle in by_pid.chain(others) {
            self.twice(&Request::DetachContainer { handle });
        }
        let attached: u32 = self.status().services.iter().map(|service| service.attachments).sum();
        assert_eq!(attached, 0);
    }

    fn tear_down(&mut self) {
        for (service, _) in SERVICES {
            self.twice(&Request::TeardownServiceOverlay { service: service.into() });
        }
        self.twice(&Request::TeardownGlobalOverlay);
        assert_eq!(self.status().service_count, 0);
    }

    /// The second time, an orchestrator finds that it has its wish.
    fn shut_down(&mut self, host: &mut Host) {
        self.sent.insert("shutdown");
        assert_eq!(self.client.ask(Request::Shutdown), Response::Ok);
        assert!(self.client.call(Request::Shutdown).is_err(), "the connection closes after the reply");
        assert!(host.wait().success());
    }
}

/// One container for each service; the first also on the whole overlay, another one on the isolated service, and one by
/// its namespace. Those of the isolated service are members of an isolation network.
fn container_requests(containers: &[Namespace]) -> Vec<Request> {
    let services = SERVICES.iter().map(|(service, _)| *service).chain(["jobs"]);
    let by_pid = services.zip(containers).enumerate().map(|(number, (service, container))| {
        let handle = process(container.pid());
        let isolation_network = (service == "jobs").then(|| "job-88".to_owned());
        AttachContainer { join_global: number == 0, isolation_network, ..attach(handle, service) }
    });
    let path = format!("/proc/{}/ns/net", containers[5].pid());
    let by_path = attach(AttachHandle::LinuxNetns { id: "by-path".into(), path }, "web");
    by_pid.chain([by_path]).map(Request::AttachContainer).collect()
}

fn key(seed: u8) -> String {
    PrivateKey::from_bytes([seed; 32]).public_key().to_base64()
}
