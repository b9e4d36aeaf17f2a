//! The daemon ends and starts again; containers, leases and peers are where they were, and no request has to be repeated.
//!
//! ```text
//!   container ── web bridge ── host 0 (ends, starts) ════ switch ════ host 1 ── web bridge ── container
//! ```

use std::net::IpAddr;

use overlayd_testkit::lab::{
    self, Host, Lab, LabCluster, Namespace, Underlay,
    probe::{pings, transfer},
};

use crate::container;

/// Two hosts with a container each, which have spoken to each other.
fn at_work() -> (Lab, [Namespace; 2], Vec<IpAddr>) {
    let mut lab = crate::lab(2, &Underlay::default());
    LabCluster::V4.join(&mut lab.hosts, &["web"], Host::v4);
    let ends = [container(), container()];
    let ips: Vec<IpAddr> =
        lab.hosts.iter().zip(&ends).map(|(host, end)| host.client().attach(end.pid(), "web")).collect();
    assert!(pings(&ends[0], ips[1]) && pings(&ends[1], ips[0]));
    (lab, ends, ips)
}

/// Interfaces, addresses and rules; what the daemon's own sockets and the kernel's bookkeeping change is left out.
fn plumbing(host: &Host) -> Vec<String> {
    let kept = ["ip -oneline: ", "nft list: ", "/proc/sys/net/ipv4/ip_forward"];
    let of_the_device = |fact: &String| fact.contains("zl-lab-n0-g");
    let plumbing = host.facts().into_iter().filter(|fact| kept.iter().any(|kind| fact.starts_with(kind)));
    plumbing.filter(|fact| !of_the_device(fact)).collect()
}

fn works_as_before(lab: &Lab, ends: &[Namespace; 2], ips: &[IpAddr]) {
    let mut client = lab.hosts[0].client();
    assert_eq!(client.attach(ends[0].pid(), "web"), ips[0], "the container keeps its address");
    let status = client.status();
    assert_eq!((status.peer_count, status.services[0].attachments), (1, 1));
    assert!(pings(&ends[0], ips[1]), "{} to {}", ips[0], ips[1]);
    assert!(pings(&ends[1], ips[0]), "{} to {}", ips[1], ips[0]);
    transfer(&ends[1], &ends[0], ips[0], 100_000).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn sigterm_leaves_the_plumbing_and_a_start_takes_it_up() {
    if !lab::available() {
        return;
    }
    let (mut lab, ends, ips) = at_work();
    let before = plumbing(&lab.hosts[0]);
    assert!(lab.hosts[0].terminate().success());
    assert_eq!(plumbing(&lab.hosts[0]), before, "SIGTERM changed the host");
    lab.hosts[0].start();
    assert_eq!(plumbing(&lab.hosts[0]), before, "the start changed the host");
    works_as_before(&lab, &ends, &ips);
}

#[test]
fn kill_9_leaves_the_plumbing_and_a_start_takes_it_up() {
    if !lab::available() {
        return;
    }
    let (mut lab, ends, ips) = at_work();
    let before = plumbing(&lab.hosts[0]);
    lab.hosts[0].kill();
    assert_eq!(plumbing(&lab.hosts[0]), before, "the end changed the host");
    lab.hosts[0].start();
    assert_eq!(plumbing(&lab.hosts[0]), before, "the start changed the host");
    works_as_before(&lab, &ends, &ips);
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    let mut client = host.start();
    let (data, socket) = (host.data_dir(), host.socket());
    let paths = [crate::overlayd(), &data, &socket].map(|path| path.to_str().expect("a path in UTF-8"));
    let second = host.namespace.try_run(&[paths[0], "--data-dir", paths[1], "--socket", paths[2]]);
    let complaint = second.expect_err("the second daemon ends");
    assert!(complaint.contains("exit status: 1"), "{complaint}");
    client.status();
    host.client().status();
}
