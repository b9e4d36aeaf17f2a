//! Hosts that are not on one segment, or on a poor one.
//!
//! ```text
//!   container ── host 0 ── eth0 ══ router | NAT + switch | lossy switch ══ eth0 ── host 1 ── container
//! ```

use std::net::IpAddr;

use overlayd_core::protocol::{PeerSpec, Request};
use overlayd_testkit::lab::{
    self, Host, Lab, LabCluster, LinkShape, Namespace, Underlay,
    probe::{MARKER, PacketCapture, ping, pings, transfer},
};

use crate::container;

fn one_container_each(lab: &Lab) -> Vec<(Namespace, IpAddr)> {
    let attach = |host: &Host| {
        let container = container();
        let ip = host.client().attach(container.pid(), "web");
        (container, ip)
    };
    lab.hosts.iter().map(attach).collect()
}

#[test]
fn a_router_between_the_hosts() {
    if !lab::available() {
        return;
    }
    for underlay in [Host::v4, Host::v6] {
        let mut lab = crate::lab(2, &Underlay { shape: LinkShape::Router, ..Underlay::default() });
        LabCluster::V4.join(&mut lab.hosts, &["web"], underlay);
        let ends = one_container_each(&lab);
        assert!(pings(&ends[0].0, ends[1].1) && pings(&ends[1].0, ends[0].1));
        transfer(&ends[0].0, &ends[1].0, ends[1].1, 500_000).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn a_host_behind_a_nat_is_learned_by_roaming() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(2, &Underlay { shape: LinkShape::Nat(vec![0]), ..Underlay::default() });
    let inner = LabCluster::V4.raise(&mut lab.hosts[0].start(), 0, &["web"], lab.hosts[0].v4());
    let outer = LabCluster::V4.raise(&mut lab.hosts[1].start(), 1, &["web"], lab.hosts[1].v4());
    let Request::AddPeer { peer, scope } = inner.as_peer() else { panic!("a peer is added") };
    let unknown = PeerSpec { endpoint: "0.0.0.0:0".into(), ..peer };
    lab.hosts[1].client().ok(Request::AddPeer { peer: unknown, scope });
    lab.hosts[0].client().ok(outer.as_peer());
    let ends = one_container_each(&lab);
    assert!(pings(&ends[0].0, ends[1].1), "the one behind the NAT speaks first");
    assert!(pings(&ends[1].0, ends[0].1), "then it can be spoken to");
    let status = lab.hosts[1].client().status_until(|status| !status.peers[0].endpoint.is_empty());
    let learned = &status.peers[0].endpoint;
    assert!(learned.starts_with("192.0.2.1:"), "the NAT's address, not {learned}");
}

#[test]
fn a_transfer_survives_a_lossy_underlay() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(2, &Underlay { loss_per_mille: 20, ..Underlay::default() });
    LabCluster::V4.join(&mut lab.hosts, &["web"], Host::v4);
    let ends = one_container_each(&lab);
    assert!(pings(&ends[0].0, ends[1].1));
    transfer(&ends[0].0, &ends[1].0, ends[1].1, 300_000).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn nodes_reach_each_other_without_any_container() {
    if !lab::available() {
        return;
    }
    for (cluster, underlay) in [(LabCluster::V4, Host::v4 as fn(&Host) -> IpAddr), (LabCluster::V6, Host::v6)] {
        let mut lab = crate::lab(3, &Underlay::default());
        cluster.join(&mut lab.hosts, &[], underlay);
        let nodes: Vec<IpAddr> =
            lab.hosts.iter().map(|host| host.client().status().node_ip.expect("a node address")).collect();
        for host in &lab.hosts {
            for node in &nodes {
                assert!(pings(&host.namespace, *node), "{:?} does not reach {node}", host.v4());
            }
        }
    }
}

#[test]
fn an_overlay_source_that_comes_from_the_underlay_reaches_no_container() {
    if !lab::available() {
        return;
    }
    for (cluster, forged) in [(LabCluster::V4, "10.77.200.1"), (LabCluster::V6, "fd77:0:0:f::1")] {
        let mut lab = crate::lab(2, &Underlay::default());
        cluster.join(&mut lab.hosts, &["web"], Host::v4);
        let ends = one_container_each(&lab);
        let (victim, ip) = (&ends[0].0, ends[0].1);
        let way = if ip.is_ipv4() { lab.hosts[0].v4() } else { lab.hosts[0].v6() };
        // `optimistic` addresses serve as a source at once.
        let at_once: &[&str] = if ip.is_ipv4() { &[] } else { &["nodad", "optimistic"] };
        lab.core.run(&[&["ip", "address", "add", forged, "dev", "lo"], at_once].concat());
        lab.core.run(&["ip", "route", "add", &ip.to_string(), "via", &way.to_string(), "src", forged]);
        let capture = PacketCapture::start(victim, &MARKER);
        assert!(pings(&ends[1].0, ip), "the far container may");
        assert!(capture.end().with_marker > 0, "the capture sees what arrives");
        // The kernel's own check of the way back is not what this is about.
        for link in ["all", "eth0"] {
            lab.hosts[0].namespace.set(&format!("ipv4/conf/{link}/rp_filter"), "0");
        }
        let (inside, outside) =
            (PacketCapture::start(victim, &MARKER), PacketCapture::start(&lab.hosts[0].namespace, &MARKER));
        // More than one: on a busy machine the first can be lost to the look-up of the neighbour.
        for _ in 0..3 {
            assert_eq!(ping(&lab.core, ip, 56), None);
        }
        let (inside, outside) = (inside.end(), outside.end());
        assert!(outside.with_marker > 0, "the forged packet did not even reach the host: {outside:?}");
        assert_eq!(inside.with_marker, 0, "the forged packet reached {ip}: {inside:?}");
    }
}
