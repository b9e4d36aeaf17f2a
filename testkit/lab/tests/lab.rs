//! The lab itself: what its wires and probes are worth, without any daemon.
//!
//! ```text
//!   host 0 ──┐            host 0 ── NAT ──┐
//!            ├── core                      ├── core
//!   host 1 ──┘            host 1 ─────────┘
//! ```

use std::{net::SocketAddr, path::Path};

use overlayd_lab::{
    Lab, LinkShape, Namespace, NamespaceConfinement, OUTSIDE, OUTSIDE_V6, Underlay,
    probe::{PacketCapture, UdpEcho, UdpFlow, ping, pings, transfer},
};

const NO_DAEMON: &str = "/bin/false";

fn lab(shape: LinkShape, mtu: u16) -> Lab {
    Lab::new(2, &Underlay { shape, mtu, ..Underlay::default() }, Path::new(NO_DAEMON))
}

#[test]
fn hosts_reach_each_other_and_the_outside_over_switch_and_router() {
    if !overlayd_lab::available() {
        return;
    }
    for shape in [LinkShape::Switch, LinkShape::Router] {
        let lab = lab(shape, 1500);
        let [a, b] = &lab.hosts[..] else { panic!("two hosts") };
        for address in [b.v4(), b.v6(), OUTSIDE.into(), OUTSIDE_V6.into()] {
            assert!(pings(&a.namespace, address), "{address}");
        }
        for address in [b.v4(), b.v6()] {
            assert_eq!(transfer(&a.namespace, &b.namespace, address, 300_000).expect("a transfer").bytes, 300_000);
        }
    }
}

#[test]
fn a_host_behind_a_nat_calls_out_and_is_not_called() {
    if !overlayd_lab::available() {
        return;
    }
    let lab = lab(LinkShape::Nat(vec![0]), 1500);
    let [inside, outside] = &lab.hosts[..] else { panic!("two hosts") };
    assert!(pings(&inside.namespace, outside.v4()));
    assert!(pings(&inside.namespace, outside.v6()));
    assert_eq!(ping(&outside.namespace, inside.v4(), 56), None);
}

#[test]
fn the_mtu_is_that_of_every_link() {
    if !overlayd_lab::available() {
        return;
    }
    let lab = lab(LinkShape::Router, 1400);
    let [a, b] = &lab.hosts[..] else { panic!("two hosts") };
    let moved = transfer(&a.namespace, &b.namespace, b.v4(), 100_000).expect("a transfer");
    assert!((1340..=1360).contains(&moved.mss), "{moved:?}");
}

#[test]
fn a_capture_finds_plaintext_and_fragments() {
    if !overlayd_lab::available() {
        return;
    }
    let lab = lab(LinkShape::Switch, 1500);
    let [a, b] = &lab.hosts[..] else { panic!("two hosts") };
    // The payload of a ping counts its bytes up from 0.
    let capture = PacketCapture::start(&lab.core, &[20, 21, 22, 23, 24, 25]);
    assert!(pings(&a.namespace, b.v4()));
    let seen = capture.end();
    assert!(seen.with_marker >= 2 && seen.fragments == 0, "{seen:?}");
    let capture = PacketCapture::start(&lab.core, b"never sent");
    assert!(ping(&a.namespace, b.v4(), 3000).is_some());
    let seen = capture.end();
    assert!(seen.with_marker == 0 && seen.fragments >= 4, "{seen:?}");
}

#[test]
fn a_flow_counts_what_is_lost() {
    if !overlayd_lab::available() {
        return;
    }
    let broken = Underlay { loss_per_mille: 999, ..Underlay::default() };
    for (underlay, works) in [(Underlay::default(), true), (broken, false)] {
        let lab = Lab::new(2, &underlay, Path::new(NO_DAEMON));
        let [a, b] = &lab.hosts[..] else { panic!("two hosts") };
        let echo = UdpEcho::start(&b.namespace, b.v4());
        let flow = UdpFlow::start(&a.namespace, SocketAddr::new(b.v4(), echo.port));
        let talk = flow.end();
        assert_eq!((talk.answered > 0, talk.lost.is_empty()), (works, works), "{talk:?}");
    }
}

#[test]
fn a_container_starts_with_nothing_and_ends_with_its_namespace() {
    if !overlayd_lab::available() {
        return;
    }
    for confinement in [NamespaceConfinement::None, NamespaceConfinement::NoCapabilities] {
        let container = Namespace::container(confinement);
        let links = container.run(&["ip", "-oneline", "link"]);
        assert_eq!(links.lines().count(), 1, "{links}");
        let process = format!("/proc/{}", container.pid());
        drop(container);
        assert!(!Path::new(&process).exists());
    }
}

#[test]
fn a_host_that_nobody_touched_has_the_same_facts() {
    if !overlayd_lab::available() {
        return;
    }
    let lab = lab(LinkShape::Switch, 1500);
    let host = &lab.hosts[0];
    let before = host.facts();
    assert!(before.iter().any(|fact| fact.contains("192.0.2.1/24")));
    assert!(before.iter().any(|fact| fact.contains("ip_forward = 0")));
    assert_eq!(before, host.facts());
    host.run(&["ip", "link", "add", "extra", "type", "bridge"]);
    assert_ne!(before, host.facts());
}
