//! Published ports and what containers may not pretend, with real packets. Needs root.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    net::{IpAddr, UdpSocket},
    time::{Duration, Instant},
};

use common::{Bench, V4, V6, container, ip, service_ip};
use overlayd_core::contract::{AttachPlan, Attacher, Error, FencePlan, Inbound, PortPlan, PortProtocol};
use overlayd_testkit::lab::{
    Namespace,
    probe::{MARKER, PacketCapture, ReachPath, ReachService, is_cut_off, pings, reaches},
};

/// For what should arrive, and for what should not.
const PATIENCE: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(400);

/// The same test for both families.
macro_rules! both_families {
    ($($name:ident: $test:path;)*) => {
        mod ipv4 { $(#[tokio::test] async fn $name() { $test(super::Bench::new(super::V4)).await; })* }
        mod ipv6 { $(#[tokio::test] async fn $name() { $test(super::Bench::new(super::V6)).await; })* }
    };
}

both_families! {
    a_published_port_leads_to_the_container_and_keeps_the_clients_address: super::from_outside;
    everybody_on_the_host_reaches_published_ports: super::not_filtered;
    and_does_where_bridged_packets_come_by_the_hosts_rules: super::bridge_filtered;
    a_port_that_may_send_back_sends_nothing_else_back: super::no_echo;
    a_members_port_is_open_to_whom_the_member_is: super::members_port_not_filtered;
    and_is_so_where_bridged_packets_come_by_the_hosts_rules: super::members_port_filtered;
    a_port_is_none_of_the_loopback: super::loopback;
    a_port_of_one_address_is_not_one_of_another: super::certain_address;
    a_running_udp_flow_follows_the_port_to_its_new_container: super::moved_flow;
    a_withdrawn_port_leaves_nothing: super::withdrawn;
    a_taken_port_is_a_conflict_and_changes_nothing: super::conflict;
    a_port_of_a_program_of_the_host_is_not_taken_from_it: super::occupied;
    a_spoofed_source_gets_nowhere: super::spoofed_source;
    a_spoofed_hardware_address_gets_nowhere: super::spoofed_mac;
    nobody_answers_for_a_neighbours_address: super::stolen_address;
    overlay_sources_on_the_underlay_get_nowhere: super::from_the_underlay;
}

fn port(protocol: PortProtocol, host: (u16, u16), container_port: u16) -> PortPlan {
    PortPlan { protocol, host_ip: None, host_ports: host, container_port }
}

fn any(like: IpAddr) -> IpAddr {
    ip(if like.is_ipv4() { "0.0.0.0" } else { "::" })
}

/// A service at this port of the container's, of all its addresses.
fn serve(bench: &Bench, container: &Namespace, inside: u16, protocol: PortProtocol) -> ReachService {
    ReachService::start(container, (any(ip(bench.family.uplink)), inside).into(), protocol)
}

/// Whom the service saw when the client spoke to this port of the host.
fn seen(service: &ReachService, client: &Namespace, host: &str, port: u16) -> Option<IpAddr> {
    service.asked_by(client, (ip(host), port).into(), None).map(|asker| asker.ip())
}

const BOTH: [PortProtocol; 2] = [PortProtocol::Tcp, PortProtocol::Udp];

async fn published(bench: &Bench, number: u8, ports: Vec<PortPlan>) -> (Namespace, AttachPlan) {
    let (one, web) = (container(), bench.web());
    bench.backend.ensure_network(&web).await.unwrap();
    let plan = AttachPlan { ports, ..bench.plan(&one, &web, number) };
    bench.backend.attach(&plan).await.unwrap();
    (one, plan)
}

async fn from_outside(bench: Bench) {
    let ports = BOTH.map(|protocol| port(protocol, (8000, 8009), 80)).to_vec();
    let (one, _) = published(&bench, 2, ports).await;
    let family = bench.family;
    for protocol in BOTH {
        let [first, fifth, last, beyond] = [80, 84, 89, 90].map(|inside| serve(&bench, &one, inside, protocol));
        for (outside, service) in [(8000, &first), (8004, &fifth), (8009, &last)] {
            let saw = seen(service, &bench.outside, family.uplink, outside);
            assert_eq!(saw, Some(ip(family.outside)), "{protocol:?} {outside}");
        }
        assert!(beyond.is_unheard_by(&bench.outside, (ip(family.uplink), 8010).into(), None), "{protocol:?}");
        let saw = seen(&first, &bench.remote, family.node, 8000);
        assert_eq!(saw, Some(ip(family.remote)), "{protocol:?} from another node");
    }
}

async fn not_filtered(bench: Bench) {
    bridge_netfilter(&bench, "0");
    hairpin(bench).await;
}

async fn bridge_filtered(bench: Bench) {
    bridge_netfilter(&bench, "1");
    hairpin(bench).await;
}

/// The settings of the module `br_netfilter`, each network namespace having its own.
fn bridge_netfilter(bench: &Bench, value: &str) {
    for setting in ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"] {
        bench.host.set(setting, value);
    }
}

async fn hairpin(bench: Bench) {
    let ports = BOTH.map(|protocol| port(protocol, (8000, 8000), 80)).to_vec();
    let (one, _) = published(&bench, 2, ports).await;
    let (two, _) = published(&bench, 3, vec![]).await;
    let (far, db) =
        (container(), bench.network("lbt-db", bench.family.db, overlayd_core::contract::Egress::Masquerade));
    bench.backend.ensure_network(&db).await.unwrap();
    bench.backend.attach(&bench.plan(&far, &db, 2)).await.unwrap();
    let everybody =
        [("itself", &one), ("its neighbour", &two), ("one on another bridge", &far), ("the host", &bench.host)];
    for protocol in BOTH {
        let service = serve(&bench, &one, 80, protocol);
        for (who, client) in everybody {
            let saw = seen(&service, client, bench.family.uplink, 8000);
            assert!(saw.is_some(), "{who} by {protocol:?}");
        }
    }
}

/// What a container broadcasts does not come back to it, for it would take its own address for that of another.
async fn no_echo(bench: Bench) {
    const SHOUTS: u64 = 10;
    let (one, _) = published(&bench, 2, vec![port(PortProtocol::Udp, (8000, 8000), 80)]).await;
    let shown = bench.host.run(&["bridge", "-d", "link", "show", "dev", &format!("veth-{}-s", one.pid())]);
    assert!(shown.contains("hairpin on"), "it could not call itself: {shown}");
    // No interface has this hardware address: a bridge sends such packets out by every port.
    let nobody = common::numbered(bench.family.web, 50).addr();
    one.run(&["ip", "neigh", "replace", &nobody.to_string(), "lladdr", "02:00:00:00:00:50", "dev", "eth0"]);
    let socket = one.enter(|| UdpSocket::bind((any(nobody), 0))).unwrap();
    let capture = PacketCapture::start(&one, &MARKER);
    for _ in 0..SHOUTS {
        socket.send_to(&MARKER, (nobody, 9)).unwrap();
    }
    std::thread::sleep(MOMENT);
    // The capture also sees what leaves.
    assert_eq!(capture.end().with_marker, SHOUTS, "some came back");
}

async fn members_port_not_filtered(bench: Bench) {
    bridge_netfilter(&bench, "0");
    members_port(bench).await;
}

async fn members_port_filtered(bench: Bench) {
    bridge_netfilter(&bench, "1");
    members_port(bench).await;
}

/// A member publishes a port: its own network reaches it, and so does everybody, unless only members may.
async fn members_port(bench: Bench) {
    let (web, uplink) = (bench.web(), ip(bench.family.uplink));
    bench.backend.ensure_network(&web).await.unwrap();
    let fence = |network: &str, inbound| {
        let reachable = vec![ip(bench.family.node).into()];
        let overlay = vec![bench.family.cluster.parse().unwrap()];
        Some(FencePlan { network: network.into(), reachable, overlay, inbound })
    };
    let people = [(); 4].map(|()| container());
    let [member, friend, rival, free] = &people;
    let services = BOTH.map(|protocol| (protocol, serve(&bench, member, 80, protocol)));
    for inbound in [Inbound::Anyone, Inbound::MembersOnly] {
        let ports = BOTH.map(|protocol| port(protocol, (8000, 8000), 80)).to_vec();
        let plans = [
            AttachPlan { fence: fence("red", inbound), ports, ..bench.plan(member, &web, 2) },
            AttachPlan { fence: fence("red", inbound), ..bench.plan(friend, &web, 3) },
            AttachPlan { fence: fence("blue", inbound), ..bench.plan(rival, &web, 4) },
            bench.plan(free, &web, 5),
        ];
        for plan in &plans {
            bench.backend.attach(plan).await.unwrap();
        }
        for (protocol, service) in &services {
            for client in [member, friend, &bench.host, &bench.outside] {
                assert!(seen(service, client, bench.family.uplink, 8000).is_some(), "{inbound:?} {protocol:?}");
            }
            assert!(service.is_unheard_by(rival, (uplink, 8000).into(), None), "{inbound:?} {protocol:?}");
            match inbound {
                Inbound::Anyone => assert!(seen(service, free, bench.family.uplink, 8000).is_some(), "{protocol:?}"),
                Inbound::MembersOnly => {
                    assert!(service.is_unheard_by(free, (uplink, 8000).into(), None), "{protocol:?}")
                }
            }
        }
    }
}

/// To let the loopback lead to containers would let containers reach what listens on the loopback.
async fn loopback(bench: Bench) {
    let ports = BOTH.map(|protocol| port(protocol, (8000, 8000), 80)).to_vec();
    let (one, _) = published(&bench, 2, ports).await;
    let loopback = if bench.family.bits == 24 { "127.0.0.1" } else { "::1" };
    for protocol in BOTH {
        let service = serve(&bench, &one, 80, protocol);
        assert!(service.is_unheard_by(&bench.host, (ip(loopback), 8000).into(), None), "{protocol:?}");
        // The host's own services there stay in reach with any ports published.
        let own = ReachService::start(&bench.host, (ip(loopback), 8000).into(), protocol);
        assert!(own.asked_by(&bench.host, own.address(), None).is_some(), "{protocol:?}");
    }
}

async fn certain_address(bench: Bench) {
    let certain = |protocol| PortPlan { host_ip: Some(ip(bench.family.uplink)), ..port(protocol, (8000, 8000), 80) };
    let (one, _) = published(&bench, 2, BOTH.map(certain).to_vec()).await;
    for protocol in BOTH {
        let service = serve(&bench, &one, 80, protocol);
        assert!(seen(&service, &bench.outside, bench.family.uplink, 8000).is_some());
        assert!(service.is_unheard_by(&bench.remote, (ip(bench.family.node), 8000).into(), None));
    }
}

async fn moved_flow(bench: Bench) {
    let ports = vec![port(PortProtocol::Udp, (8000, 8000), 80)];
    let (one, plan) = published(&bench, 2, ports.clone()).await;
    let (two, other) = published(&bench, 3, vec![]).await;
    let [first, second] =
        [&one, &two].map(|at| at.enter(|| UdpSocket::bind((any(ip(bench.family.uplink)), 80))).unwrap());
    let client = bench.outside.enter(|| UdpSocket::bind((any(ip(bench.family.uplink)), 7000))).unwrap();
    let arrives = |service: &UdpSocket, patience: Duration| {
        client.send_to(b"ask", (ip(bench.family.uplink), 8000)).unwrap();
        service.set_read_timeout(Some(patience)).unwrap();
        overlayd_testkit::uninterrupted(|| service.recv_from(&mut [0; 8])).is_ok()
    };
    assert!(arrives(&first, PATIENCE));
    bench.backend.attach(&AttachPlan { ports: vec![], ..plan }).await.unwrap();
    assert!(!arrives(&first, MOMENT), "the port is withdrawn");
    bench.backend.attach(&AttachPlan { ports, ..other }).await.unwrap();
    assert!(arrives(&second, PATIENCE), "the same flow goes to the new container");
}

async fn withdrawn(bench: Bench) {
    let (_one, plan) = published(&bench, 2, vec![]).await;
    let list = || bench.host.run(&["nft", "list", "ruleset"]);
    let before = list();
    let ports = vec![port(PortProtocol::Tcp, (20000, 20999), 30000), port(PortProtocol::Udp, (53, 53), 53)];
    bench.backend.attach(&AttachPlan { ports: ports.clone(), ..plan.clone() }).await.unwrap();
    let with_ports = list();
    assert_ne!(with_ports, before);
    bench.backend.attach(&AttachPlan { ports, ..plan.clone() }).await.unwrap();
    assert_eq!(list(), with_ports);
    bench.backend.attach(&plan).await.unwrap();
    assert_eq!(list(), before);
}

async fn conflict(bench: Bench) {
    let ports = vec![port(PortProtocol::Tcp, (8000, 8003), 80)];
    let (_one, _) = published(&bench, 2, ports).await;
    let two = container();
    let before = bench.host.run(&["nft", "list", "ruleset"]);
    let ports = vec![port(PortProtocol::Tcp, (8003, 8003), 80)];
    let plan = AttachPlan { ports, ..bench.plan(&two, &bench.web(), 3) };
    let error = bench.backend.attach(&plan).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    assert_eq!(bench.host.run(&["nft", "list", "ruleset"]), before);
    assert!(two.try_run(&["ip", "link", "show", "eth0"]).is_err());
}

async fn occupied(bench: Bench) {
    let one = container();
    bench.backend.ensure_network(&bench.web()).await.unwrap();
    let plan = |ports| AttachPlan { ports, ..bench.plan(&one, &bench.web(), 2) };
    let uplink = ip(bench.family.uplink);
    for (protocol, other) in [(PortProtocol::Tcp, PortProtocol::Udp), (PortProtocol::Udp, PortProtocol::Tcp)] {
        let program = ReachService::start(&bench.host, (uplink, 0).into(), protocol);
        let number = program.address().port();
        let ports = |host_ip| vec![PortPlan { host_ip, ..port(protocol, (number, number), 80) }];
        for host_ip in [None, Some(uplink)] {
            let error = bench.backend.attach(&plan(ports(host_ip))).await.unwrap_err();
            assert!(matches!(&error, Error::Conflict { what, .. } if what.contains(&number.to_string())), "{error}");
        }
        assert!(program.asked_by(&bench.outside, program.address(), None).is_some(), "{protocol:?}");
        bench.backend.attach(&plan(ports(Some(ip(bench.family.node))))).await.unwrap();
        bench.backend.attach(&plan(vec![port(other, (8000, 8009), 80)])).await.unwrap();
    }
}

async fn spoofed_source(bench: Bench) {
    let (one, plan) = published(&bench, 2, vec![]).await;
    let (two, other) = published(&bench, 3, vec![]).await;
    let to = service_ip(&other);
    assert!(reaches(&one, &two, to, ReachPath::Udp));
    let mut joined = AttachPlan { ..plan };
    joined.overlay = Some(bench.overlay_leg());
    bench.backend.attach(&joined).await.unwrap();
    for (interface, own) in ["eth0", "eth1"].into_iter().zip(joined.addresses()) {
        let false_source = bench.family.lost;
        let bits = if to.is_ipv4() { "32" } else { "128" };
        let address = format!("{false_source}/{bits}");
        let nodad: &[&str] = if to.is_ipv4() { &[] } else { &["nodad"] };
        one.run(&[&["ip", "addr", "add", &address, "dev", interface], nodad].concat());
        let (receiver, at) = if interface == "eth0" { (&two, to) } else { (&bench.remote, ip(bench.family.remote)) };
        let service = ReachService::start(receiver, (at, 0).into(), PortProtocol::Udp);
        // The ends of the overlay's stand-in may have to find each other first.
        let start = Instant::now();
        let honest = || service.asked_by(&one, service.address(), Some(own)).is_some();
        while !honest() {
            let inside = one.run(&["sh", "-c", "ip -6 addr; ip -6 route; ip neigh; ip -6 neigh"]);
            assert!(start.elapsed() < 3 * PATIENCE, "{interface} is mute: {inside}");
            std::thread::sleep(MOMENT);
        }
        let lie = service.is_unheard_by(&one, service.address(), Some(ip(false_source)));
        assert!(lie, "a lie by {interface} arrived");
        one.run(&["ip", "addr", "del", &address, "dev", interface]);
    }
}

async fn spoofed_mac(bench: Bench) {
    let (one, plan) = published(&bench, 2, vec![]).await;
    assert!(pings(&one, bench.web().gateways[0].addr()));
    let route = bench.web().gateways[0].addr().to_string();
    one.run(&["ip", "link", "set", "eth0", "address", "02:00:00:00:00:99"]);
    assert!(is_cut_off(&one, &bench.host, bench.web().gateways[0].addr(), ReachPath::Icmp), "{route} {plan:?}");
}

async fn stolen_address(bench: Bench) {
    let (thief, _) = published(&bench, 2, vec![]).await;
    let (owner, plan) = published(&bench, 3, vec![]).await;
    let (other, _) = published(&bench, 4, vec![]).await;
    let address = plan.service.as_ref().unwrap().address;
    assert!(pings(&other, address.addr()));
    let shown = owner.run(&["ip", "-oneline", "link", "show", "eth0"]);
    let mac = shown.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    let entry = || other.run(&["ip", "neigh", "show", &address.addr().to_string()]);
    assert!(entry().contains(mac));
    // The thief announces the address as its own, answers for it, and asks in its name.
    let nodad: &[&str] = if address.addr().is_ipv4() { &[] } else { &["nodad"] };
    owner.run(&["ip", "link", "set", "eth0", "down"]);
    thief.run(&[&["ip", "addr", "add", &address.to_string(), "dev", "eth0"], nodad].concat());
    other.run(&["ip", "neigh", "flush", "all"]);
    assert!(!pings(&other, address.addr()), "the thief answers");
    assert!(!entry().contains("REACHABLE"), "{}", entry());
    let service = ReachService::start(&other, (any(address.addr()), 0).into(), PortProtocol::Udp);
    let to = (service_ip(&bench.plan(&other, &bench.web(), 4)), service.address().port()).into();
    assert!(service.is_unheard_by(&thief, to, Some(address.addr())), "the thief speaks for the owner");
}

async fn from_the_underlay(bench: Bench) {
    let (one, plan) = published(&bench, 2, vec![port(PortProtocol::Udp, (8000, 8000), 80)]).await;
    let at = service_ip(&plan);
    for interface in ["all", "up0"] {
        bench.host.set(&format!("ipv4/conf/{interface}/rp_filter"), "0");
    }
    let bits = if at.is_ipv4() { "32" } else { "128" };
    let nodad: &[&str] = if at.is_ipv4() { &[] } else { &["nodad"] };
    let lie = format!("{}/{bits}", bench.family.lost);
    bench.outside.run(&[&["ip", "addr", "add", &lie, "dev", "eth0"], nodad].concat());
    bench.outside.run(&["ip", "route", "add", "default", "via", bench.family.uplink]);
    let service = serve(&bench, &one, 80, PortProtocol::Udp);
    let (honest, liar, uplink) = (ip(bench.family.outside), ip(bench.family.lost), ip(bench.family.uplink));
    assert!(service.asked_by(&bench.outside, (uplink, 8000).into(), Some(honest)).is_some());
    for to in [(uplink, 8000), (at, 80)] {
        let unheard = service.is_unheard_by(&bench.outside, to.into(), Some(liar));
        assert!(unheard, "{to:?} took a packet that claims to be of the overlay");
    }
}
