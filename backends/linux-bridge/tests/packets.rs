//! What containers reach, and what they do not, with real packets. Needs root.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::IpAddr;

use common::{Bench, MTU, V4, V6, container, ip, service_ip};
use overlayd_core::contract::{Attacher, Egress};
use overlayd_testkit::lab::probe::{ping, pings, transfer};

/// The same test for both families.
macro_rules! both_families {
    ($($name:ident: $test:path;)*) => {
        mod ipv4 { $(#[tokio::test] async fn $name() { $test(super::Bench::new(super::V4)).await; })* }
        mod ipv6 { $(#[tokio::test] async fn $name() { $test(super::Bench::new(super::V6)).await; })* }
    };
}

both_families! {
    a_container_reaches_the_outside_behind_the_host: super::egress;
    without_egress_nothing_leaves_the_overlay: super::no_egress;
    nobody_outside_gets_in_by_routing_to_the_host: super::intrusion;
    overlay_traffic_never_leaves_in_the_clear: super::leak;
    containers_of_two_networks_and_the_overlay_reach_each_other: super::overlay;
    a_global_interface_is_part_of_the_overlay: super::global;
    the_first_packet_after_an_attach_is_answered: super::first_packet;
    a_container_has_ipv6_only_where_it_was_given_it: super::families;
    packets_up_to_the_mtu_pass: super::mtu;
    segments_fit_the_narrowest_part_of_the_way: super::clamped;
    a_detached_container_is_cut_off_at_once: super::cut_off;
}

async fn egress(bench: Bench) {
    let (one, web) = (container(), bench.web());
    bench.backend.ensure_network(&web).await.unwrap();
    bench.backend.attach(&bench.plan(&one, &web, 2)).await.unwrap();
    // The outside has no route to containers: only a masqueraded packet is answered.
    assert!(pings(&one, ip(bench.family.outside)));
}

async fn no_egress(bench: Bench) {
    let (one, web) = (container(), bench.network("lbt-web", bench.family.web, Egress::None));
    bench.backend.ensure_network(&web).await.unwrap();
    bench.backend.attach(&bench.plan(&one, &web, 2)).await.unwrap();
    bench.outside.run(&["ip", "route", "add", "default", "via", bench.family.uplink]);
    assert!(pings(&one, ip(bench.family.remote)));
    assert!(ping(&one, ip(bench.family.outside), 56).is_none());

    bench.backend.ensure_network(&bench.web()).await.unwrap();
    assert!(pings(&one, ip(bench.family.outside)), "egress can be given later");
}

async fn intrusion(bench: Bench) {
    let (one, web) = (container(), bench.web());
    bench.backend.ensure_network(&web).await.unwrap();
    let plan = bench.plan(&one, &web, 2);
    bench.backend.attach(&plan).await.unwrap();
    bench.outside.run(&["ip", "route", "add", "default", "via", bench.family.uplink]);
    assert!(ping(&bench.outside, service_ip(&plan), 56).is_none());
    assert!(ping(&bench.outside, ip(bench.family.remote), 56).is_none(), "nor into the overlay");
    assert!(pings(&one, ip(bench.family.outside)), "although the container gets out");
}

async fn leak(bench: Bench) {
    let (one, web) = (container(), bench.web());
    bench.backend.ensure_network(&web).await.unwrap();
    bench.backend.attach(&bench.plan(&one, &web, 2)).await.unwrap();
    bench.remove_overlay();
    let lost = ip(bench.family.lost);
    let as_net = ipnet::IpNet::from(lost).to_string();
    bench.outside.run(&["ip", "addr", "add", &as_net, "dev", "eth0"]);
    assert!(pings(&bench.host, lost), "the host itself has a way there");
    assert!(ping(&one, lost, 56).is_none());
}

async fn overlay(bench: Bench) {
    let (one, two, web) = (container(), container(), bench.web());
    let db = bench.network("lbt-db", bench.family.db, Egress::Masquerade);
    for network in [&web, &db] {
        bench.backend.ensure_network(network).await.unwrap();
    }
    let plans = [bench.plan(&one, &web, 2), bench.plan(&two, &db, 2)];
    for plan in &plans {
        bench.backend.attach(plan).await.unwrap();
    }
    let [first, second] = plans.each_ref().map(service_ip);
    assert!(pings(&one, second) && pings(&two, first));
    assert!(pings(&one, ip(bench.family.remote)), "container to another node");
    assert!(pings(&bench.remote, first) && pings(&bench.remote, second), "another node to containers");
}

async fn global(bench: Bench) {
    let (one, web) = (container(), bench.web());
    // Strict checks of the way back are what some distributions set for everybody.
    for namespace in [&bench.host, &one] {
        for interface in ["all", "default"] {
            namespace.set(&format!("ipv4/conf/{interface}/rp_filter"), "1");
        }
    }
    bench.backend.ensure_network(&web).await.unwrap();
    let mut plan = bench.plan(&one, &web, 2);
    plan.overlay = Some(bench.overlay_leg());
    bench.backend.attach(&plan).await.unwrap();
    assert!(pings(&bench.remote, ip(bench.family.global)), "another node to the global address");
    assert!(pings(&bench.remote, service_ip(&plan)), "another node to the service address");
    assert!(pings(&one, ip(bench.family.remote)), "the container to another node");
    assert!(pings(&one, ip(bench.family.node)), "the container to this node");
    assert!(pings(&bench.host, ip(bench.family.global)), "this node to the container");
    assert!(pings(&one, ip(bench.family.outside)), "the container to the outside");

    // A device that is made anew takes the host's routes from its address along; an attach again brings them back.
    bench.remove_overlay();
    bench.add_overlay();
    bench.backend.ensure_network(&web).await.unwrap();
    bench.backend.attach(&plan).await.unwrap();
    assert!(pings(&bench.host, ip(bench.family.global)), "this node to the container, again");
    assert!(pings(&bench.remote, ip(bench.family.global)), "another node to the container, again");
}

async fn first_packet(bench: Bench) {
    let web = bench.web();
    bench.backend.ensure_network(&web).await.unwrap();
    for number in 2..8 {
        let one = container();
        bench.backend.attach(&bench.plan(&one, &web, number)).await.unwrap();
        let time = ping(&one, web.gateways[0].addr(), 56).expect("an answer");
        assert!(time.as_millis() < 900, "the first packet of {number} was lost: {time:?}");
        bench.backend.detach(&overlayd_core::contract::AttachmentId::Process(one.pid())).await.unwrap();
        bench.backend.settle().await.unwrap();
    }
}

async fn families(bench: Bench) {
    let (one, web) = (container(), bench.web());
    bench.backend.ensure_network(&web).await.unwrap();
    let plan = bench.plan(&one, &web, 2);
    bench.backend.attach(&plan).await.unwrap();
    let shown = one.run(&["ip", "-6", "-oneline", "address", "show", "dev", "eth0"]);
    let link_local = shown.lines().filter(|line| line.contains("scope link")).count();
    let expected = usize::from(service_ip(&plan).is_ipv6());
    assert_eq!((link_local, shown.lines().count()), (expected, 2 * expected), "{shown}");
}

async fn mtu(bench: Bench) {
    let (one, two, web) = (container(), container(), bench.web());
    bench.backend.ensure_network(&web).await.unwrap();
    bench.backend.attach(&bench.plan(&one, &web, 2)).await.unwrap();
    let mut other = bench.plan(&two, &web, 3);
    bench.backend.attach(&other).await.unwrap();
    let headers = if web.gateways[0].addr().is_ipv4() { 28 } else { 48 };
    let to = service_ip(&other);
    assert!(ping(&one, to, usize::from(MTU) - headers).is_some());
    assert!(ping(&one, web.gateways[0].addr(), usize::from(MTU) - headers).is_some());

    // A changed MTU reaches both ends of a running container.
    other.service.as_mut().unwrap().mtu = 1300;
    bench.backend.attach(&other).await.unwrap();
    assert_eq!(two.run(&["cat", "/proc/sys/net/ipv6/conf/eth0/mtu"]).trim(), "1300");
    assert!(two.run(&["ip", "link", "show", "eth0"]).contains("mtu 1300"));
    assert!(ping(&two, web.gateways[0].addr(), 1300 - headers).is_some());
}

/// The overlay is narrower than both ends, and neither is told so: only what the ends agreed on keeps segments small.
async fn clamped(bench: Bench) {
    const NARROW: u32 = 1300;
    let (one, web) = (container(), bench.web());
    bench.backend.ensure_network(&web).await.unwrap();
    let plan = bench.plan(&one, &web, 2);
    bench.backend.attach(&plan).await.unwrap();
    let (own, remote) = (service_ip(&plan), ip(bench.family.remote));
    bench.host.run(&["ip", "link", "set", "ov0", "mtu", &NARROW.to_string()]);
    let (deaf, headers) = match own {
        IpAddr::V4(_) => ("icmp type destination-unreachable drop", 20),
        IpAddr::V6(_) => ("icmpv6 type packet-too-big drop", 40),
    };
    let chain = format!("type filter hook input priority 0; {deaf}");
    for end in [&one, &bench.remote] {
        end.feed(&["nft", "-f", "-"], &format!("table inet deaf {{\n chain input {{\n {chain}\n }}\n}}\n"));
    }
    // Less the headers of IP and TCP, and the time stamp.
    let expected = NARROW - headers - 20 - 12;
    for (from, to, at) in [(&one, &bench.remote, remote), (&bench.remote, &one, own)] {
        let moved = transfer(from, to, at, 100_000).unwrap_or_else(|error| panic!("to {at}: {error}"));
        assert_eq!(moved.mss, expected, "to {at}");
    }
}

async fn cut_off(bench: Bench) {
    let (one, two, web) = (container(), container(), bench.web());
    bench.backend.ensure_network(&web).await.unwrap();
    let mut plan = bench.plan(&one, &web, 2);
    plan.overlay = Some(bench.overlay_leg());
    bench.backend.attach(&plan).await.unwrap();
    bench.backend.attach(&bench.plan(&two, &web, 3)).await.unwrap();
    assert!(pings(&two, service_ip(&plan)));
    bench.backend.detach(&plan.id).await.unwrap();
    let seen = bench.backend.observe().await.unwrap();
    assert_eq!((seen.attachments.len(), seen.networks[0].members), (1, 1));
    for address in plan.addresses() {
        assert!(ping(&two, address, 56).is_none(), "{address}");
        assert!(ping(&bench.remote, address, 56).is_none(), "{address}");
    }
    assert!(ping(&one, web.gateways[0].addr(), 56).is_none());
}
