//! What is on a host before the first request and after the last one is the same.
//!
//! ```text
//!   2 containers ── web bridge ── host 0 ════ switch ════ host 1 ── web bridge ── 2 containers
//! ```

use overlayd_core::protocol::{Request, Response};
use overlayd_testkit::{
    contract::HostFacts,
    lab::{self, Host, Lab, LabCluster, Namespace, Underlay, probe::pings},
};

use crate::container;

/// Both hosts at work, and what was on the first before.
fn at_work(cluster: LabCluster) -> (Lab, Vec<Namespace>, HostFacts) {
    let mut lab = crate::lab(2, &Underlay::default());
    let before = lab.hosts[0].facts();
    cluster.join(&mut lab.hosts, &["web"], Host::v4);
    let containers: Vec<Namespace> = (0..4).map(|_| container()).collect();
    let attach =
        |(number, container): (usize, &Namespace)| lab.hosts[number / 2].client().attach(container.pid(), "web");
    let ips: Vec<_> = containers.iter().enumerate().map(attach).collect();
    assert!(pings(&containers[0], ips[2]) && pings(&containers[3], ips[1]));
    (lab, containers, before)
}

#[test]
fn teardown_of_the_overlay_leaves_nothing() {
    if !lab::available() {
        return;
    }
    for cluster in [LabCluster::V4, LabCluster::V6] {
        let (lab, containers, before) = at_work(cluster);
        let host = &lab.hosts[0];
        assert_ne!(host.facts(), before);
        host.client().ok(Request::TeardownGlobalOverlay);
        host.comes_back_to(&before);
        assert_eq!(links(&containers[0]), 0, "the container lost its interface");
        host.client().ok(Request::TeardownGlobalOverlay);
    }
}

#[test]
fn shutdown_leaves_nothing_and_ends_the_daemon() {
    if !lab::available() {
        return;
    }
    let (mut lab, _containers, before) = at_work(LabCluster::V4);
    let host = &mut lab.hosts[0];
    let mut client = host.client();
    assert_eq!(client.ask(Request::Shutdown), Response::Ok);
    assert!(client.call(Request::Status).is_err(), "the connection closes after the reply");
    assert!(host.wait().success());
    host.comes_back_to(&before);
    assert!(!host.socket().exists(), "the socket stayed behind");
}

#[test]
fn after_a_teardown_the_overlay_comes_up_again() {
    if !lab::available() {
        return;
    }
    let (lab, containers, _) = at_work(LabCluster::V4);
    let host = &lab.hosts[0];
    let mut client = host.client();
    client.ok(Request::TeardownGlobalOverlay);
    let node = LabCluster::V4.raise(&mut client, 0, &["web"], host.v4());
    let remote = LabCluster::V4.raise(&mut lab.hosts[1].client(), 1, &["web"], lab.hosts[1].v4());
    client.ok(remote.as_peer());
    lab.hosts[1].client().ok(node.as_peer());
    let ip = client.attach(containers[0].pid(), "web");
    let far = lab.hosts[1].client().attach(containers[2].pid(), "web");
    // The far node still holds a session with keys that are gone; ours has to speak first to end it.
    assert!(pings(&containers[0], far), "{ip} to {far}");
    assert!(pings(&containers[2], ip), "{far} to {ip}");
}

#[test]
fn a_refused_attach_leaves_nothing() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    let mut client = host.start();
    LabCluster::V4.raise(&mut client, 0, &["web"], host.v4());
    let before = (host.facts(), client.status());
    let gone = {
        let container = container();
        container.pid()
    };
    for (pid, service) in [(gone, "web"), (host.daemon_pid(), "web"), (container().pid(), "unknown")] {
        let reply = client.call(lab::attach_request(pid, service)).expect("an answer");
        assert!(matches!(&reply, Response::Err { .. }), "PID {pid}, service {service}: {reply:?}");
        host.comes_back_to(&before.0);
        assert_eq!(client.status(), before.1, "after PID {pid}, service {service}");
    }
}

fn links(container: &Namespace) -> usize {
    let said = container.run(&["ip", "-oneline", "link"]);
    said.lines().filter(|line| !line.contains(" lo: ")).count()
}
