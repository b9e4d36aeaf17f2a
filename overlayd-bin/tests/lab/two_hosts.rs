//! Containers of two services on two hosts reach each other, encrypted, for all families and MTUs.
//!
//! ```text
//!   web.0 web.1 web.2   db.0 db.1 db.2        web.0 web.1 web.2   db.0 db.1 db.2
//!     └─────┼─────┘       └────┼───┘            └─────┼─────┘       └────┼───┘
//!       web bridge         db bridge              web bridge         db bridge
//!           └── host 0 ───────┘                       └── host 1 ───────┘
//!             zl-lab-n0-g │ eth0                    zl-lab-n1-g │ eth0
//!                         └────────────── switch ───────────────┘   captured here
//! ```

use std::net::IpAddr;

use overlayd_core::protocol::{AttachContainer, Request, Response};
use overlayd_testkit::{
    lab::{
        self, Host, Lab, LabCluster, Namespace, OUTSIDE, OUTSIDE_V6, Underlay,
        probe::{MARKER, PacketCapture, ping, pings, transfer},
    },
    requests::{attach, process},
};

use crate::container;

const SERVICES: [&str; 2] = ["web", "db"];
const TRANSFER: usize = 200_000;

/// A container and its address.
struct Member {
    namespace: Namespace,
    ip: IpAddr,
}

#[test]
fn ipv4_containers_on_an_ipv4_underlay_of_1500_bytes() {
    all_pairs(LabCluster::V4, 1500, Host::v4);
}

#[test]
fn ipv4_containers_on_an_ipv4_underlay_of_1400_bytes() {
    all_pairs(LabCluster::V4, 1400, Host::v4);
}

#[test]
fn ipv6_containers_on_an_ipv6_underlay_of_1500_bytes() {
    all_pairs(LabCluster::V6, 1500, Host::v6);
}

#[test]
fn ipv6_containers_on_an_ipv4_underlay_of_1400_bytes() {
    all_pairs(LabCluster::V6, 1400, Host::v4);
}

fn all_pairs(cluster: LabCluster, mtu: u16, underlay: fn(&Host) -> IpAddr) {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(2, &Underlay { mtu, ..Underlay::default() });
    let nodes = cluster.join(&mut lab.hosts, &SERVICES, underlay);
    let members: Vec<Vec<Member>> = lab.hosts.iter().map(three_on_each_service).collect();
    let (on_the_wire, on_the_host) =
        (PacketCapture::start(&lab.core, &MARKER), PacketCapture::start(&lab.hosts[0].namespace, &MARKER));
    for (from, to) in [(0, 1), (1, 0)] {
        for (a, b) in members[from].iter().flat_map(|a| members[to].iter().map(move |b| (a, b))) {
            assert!(pings(&a.namespace, b.ip), "{} does not reach {}", a.ip, b.ip);
        }
    }
    for (number, (a, b)) in members[0].iter().flat_map(|a| members[1].iter().map(move |b| (a, b))).enumerate() {
        let (a, b) = if number % 2 == 0 { (a, b) } else { (b, a) };
        let moved = transfer(&a.namespace, &b.namespace, b.ip, TRANSFER).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(moved.mss, expected_mss(cluster, mtu), "from {} to {}", a.ip, b.ip);
    }
    let (wire, host) = (on_the_wire.end(), on_the_host.end());
    assert!(host.with_marker > 0, "the capture would not have seen plaintext: {host:?}");
    assert!(wire.wireguard_data > 0, "nothing crossed encrypted: {wire:?}");
    assert_eq!((wire.with_marker, wire.fragments), (0, 0), "{wire:?}");
    assert!(wire.longest <= usize::from(mtu), "{wire:?}");
    for (host, (own, other)) in lab.hosts.iter().zip([(&nodes[0], &nodes[1]), (&nodes[1], &nodes[0])]) {
        wg_shows(host, &own.device, &own.public_key, &other.public_key);
    }
}

/// The largest segment that fits: the device's MTU (underlay less 80, at most 1420) less IP, TCP and the time stamp.
fn expected_mss(cluster: LabCluster, underlay_mtu: u16) -> u32 {
    let headers = if cluster == LabCluster::V4 { 20 } else { 40 } + 20 + 12;
    u32::from((underlay_mtu - 80).min(1420)) - headers
}

/// What the ordinary `wg` tool says: the device with its key, the peer, and that they have shaken hands.
fn wg_shows(host: &Host, device: &str, own_key: &str, peer_key: &str) {
    let dump = host.run(&["wg", "show", device, "dump"]);
    let lines: Vec<Vec<&str>> = dump.lines().map(|line| line.split('\t').collect()).collect();
    let [own, peer] = &lines[..] else { panic!("one device and one peer, not {dump}") };
    assert_eq!((own[1], own[2]), (own_key, "51820"), "{dump}");
    assert_eq!(peer[0], peer_key, "{dump}");
    assert!(peer[4].parse::<u64>().expect("a time") > 0, "no handshake in {dump}");
}

fn three_on_each_service(host: &Host) -> Vec<Member> {
    let mut client = host.client();
    let attach = |service: &&str| {
        let namespace = container();
        let ip = client.attach(namespace.pid(), service);
        Member { namespace, ip }
    };
    [SERVICES[0], SERVICES[0], SERVICES[0], SERVICES[1], SERVICES[1], SERVICES[1]].iter().map(attach).collect()
}

fn joined(cluster: LabCluster) -> Lab {
    let mut lab = crate::lab(2, &Underlay::default());
    cluster.join(&mut lab.hosts, &["web"], Host::v4);
    lab
}

#[test]
fn a_container_reaches_the_outside_behind_its_host() {
    if !lab::available() {
        return;
    }
    for (cluster, outside) in [(LabCluster::V4, IpAddr::from(OUTSIDE)), (LabCluster::V6, IpAddr::from(OUTSIDE_V6))] {
        let lab = joined(cluster);
        let container = container();
        lab.hosts[0].client().attach(container.pid(), "web");
        assert!(pings(&container, outside), "{outside}");
        let moved = transfer(&container, &lab.core, outside, 50_000).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(moved.bytes, 50_000);
    }
}

#[test]
fn hosts_and_remote_containers_reach_each_other() {
    if !lab::available() {
        return;
    }
    for cluster in [LabCluster::V4, LabCluster::V6] {
        let lab = joined(cluster);
        let container = container();
        let ip = lab.hosts[0].client().attach(container.pid(), "web");
        let remote = lab.hosts[1].client().status().node_ip.expect("a node address");
        assert!(pings(&container, remote), "{ip} to the remote node {remote}");
        assert!(pings(&lab.hosts[1].namespace, ip), "the remote node to {ip}");
        assert!(pings(&lab.hosts[0].namespace, ip), "the own node to {ip}");
    }
}

#[test]
fn a_container_that_joins_the_overlay_has_a_second_interface() {
    if !lab::available() {
        return;
    }
    for cluster in [LabCluster::V4, LabCluster::V6] {
        let lab = joined(cluster);
        let (near, far) = (container(), container());
        let request = AttachContainer { join_global: true, ..attach(process(near.pid()), "web") };
        let reply = lab.hosts[0].client().ask(Request::AttachContainer(request));
        assert!(matches!(reply, Response::Attached(_)), "{reply:?}");
        let far_ip = lab.hosts[1].client().attach(far.pid(), "web");
        let global = address_of(&near, "eth1");
        assert!(cluster.slice(0).parse::<ipnet::IpNet>().expect("a slice").contains(&global), "{global}");
        assert!(pings(&far, global), "the far container to {global}");
        assert!(pings(&near, far_ip), "the near container to {far_ip}");
        assert!(ping(&lab.hosts[0].namespace, global, 56).is_some(), "the own node to {global}");
    }
}

/// The first address of global scope on the link.
fn address_of(container: &Namespace, link: &str) -> IpAddr {
    let said = container.run(&["ip", "-oneline", "address", "show", "dev", link, "scope", "global"]);
    let address = said.split_whitespace().nth(3).expect("an address").split('/').next().expect("an address");
    address.parse().expect("an address")
}

#[test]
fn a_request_that_arrives_twice_changes_nothing() {
    if !lab::available() {
        return;
    }
    let lab = joined(LabCluster::V4);
    let mut client = lab.hosts[0].client();
    let container = container();
    let ip = client.attach(container.pid(), "web");
    let before = (lab.hosts[0].facts(), client.status());
    assert_eq!(client.attach(container.pid(), "web"), ip);
    client.ok(Request::SetLocalNodeId { node_id: 0 });
    client.ask(LabCluster::V4.setup(0));
    let mode = overlayd_core::protocol::OverlayMode::Auto;
    client.ask(Request::SetupServiceOverlay { service: "web".into(), mode });
    assert_eq!((lab.hosts[0].facts(), client.status()), before);
    for _ in 0..2 {
        client.detach(container.pid());
        client.ok(Request::TeardownServiceOverlay { service: "web".into() });
    }
    assert_eq!(client.status().service_count, 0);
}
