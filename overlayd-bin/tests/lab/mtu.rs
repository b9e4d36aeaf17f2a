//! The underlay carries packets of another size all of a sudden: so do device, bridges and containers, while they talk.
//!
//! ```text
//!   a ── web bridge ── host 0 ════ switch ════ host 1 ── web bridge ── b
//! ```

use std::net::{IpAddr, SocketAddr};

use overlayd_testkit::lab::{
    self, Host, LabCluster, Underlay,
    probe::{UdpEcho, UdpFlow, pings, transfer},
};

use crate::container;

#[test]
fn ipv4_containers_follow_the_underlays_mtu_while_they_talk() {
    follows(LabCluster::V4, Host::v4);
}

#[test]
fn ipv6_containers_follow_the_underlays_mtu_while_they_talk() {
    follows(LabCluster::V6, Host::v6);
}

fn follows(cluster: LabCluster, underlay: fn(&Host) -> IpAddr) {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(2, &Underlay::default());
    let nodes = cluster.join(&mut lab.hosts, &["web"], underlay);
    let ends = [container(), container()];
    let ips: Vec<IpAddr> =
        lab.hosts.iter().zip(&ends).map(|(host, end)| host.client().attach(end.pid(), "web")).collect();
    assert!(pings(&ends[0], ips[1]), "the session is there before anything is counted");
    let echo = UdpEcho::start(&ends[1], ips[1]);
    let flow = UdpFlow::start(&ends[0], SocketAddr::new(ips[1], echo.port));
    let headers = if cluster == LabCluster::V4 { 20 } else { 40 } + 20 + 12;
    for size in [1400_u32, 1500] {
        for (number, host) in lab.hosts.iter().enumerate() {
            host.run(&["ip", "link", "set", "eth0", "mtu", &size.to_string()]);
            lab.core.run(&["ip", "link", "set", &format!("port{number}"), "mtu", &size.to_string()]);
        }
        let inner = size - 80;
        for ((host, end), node) in lab.hosts.iter().zip(&ends).zip(&nodes) {
            let has = format!(" mtu {inner} ");
            let inside = || end.run(&["ip", "-oneline", "link", "show", "eth0"]);
            let links = host.wait_until(|facts| {
                let of_ours = |fact: &&String| fact.contains("ip -oneline: ") && fact.contains(" mtu ");
                let ours = facts.iter().filter(of_ours).filter(|fact| fact.contains("zl-") || fact.contains("veth-"));
                let sizes: Vec<bool> = ours.map(|fact| fact.contains(&has)).collect();
                sizes.len() >= 3 && sizes.iter().all(|is_so| *is_so) && inside().contains(&has)
            });
            let ours: Vec<_> = links.iter().filter(|fact| fact.contains(" mtu ") && fact.contains("zl-")).collect();
            assert!(ours.iter().any(|fact| fact.contains(&node.device) && fact.contains(&has)), "{ours:#?}");
            assert!(inside().contains(&has), "after {size}: {}", inside());
        }
        let moved = transfer(&ends[0], &ends[1], ips[1], 200_000).unwrap_or_else(|error| panic!("{size}: {error}"));
        assert_eq!(moved.mss, inner - headers, "after {size}");
    }
    let talk = flow.end();
    assert!(talk.answered > 100 && talk.lost.is_empty(), "{talk:?}");
}
