//! The daemon under the bounds that its packaged unit sets: capabilities and system calls. Without names to answer on
//! port 53, two capabilities are enough.
//!
//! ```text
//!   container without capabilities ── web bridge ── host 0 (overlayd: CAP_NET_ADMIN CAP_SYS_ADMIN)
//!                                                     ║ switch
//!   container with all of them     ── web bridge ── host 1 (the same)
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

use overlayd_core::protocol::Request;
use overlayd_testkit::lab::{
    self, HostPrivileges, LabCluster, Namespace, NamespaceConfinement, Node, Underlay,
    probe::{pings, transfer},
};

/// Bits of linux/capability.h.
const CAP_NET_BIND_SERVICE: u64 = 1 << 10;
const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_SYS_ADMIN: u64 = 1 << 21;

#[test]
fn two_capabilities_are_enough() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(2, &Underlay::default());
    let before = lab.hosts[0].facts();
    let mut nodes: Vec<Node> = Vec::new();
    for (number, host) in lab.hosts.iter_mut().enumerate() {
        let mut client = host.start_with(HostPrivileges::TwoCapabilities);
        assert_eq!(capabilities(host.daemon_pid()), CAP_NET_ADMIN | CAP_SYS_ADMIN);
        nodes.push(LabCluster::V4.raise(&mut client, number, &["web"], host.v4()));
    }
    lab.hosts[0].client().ok(nodes[1].as_peer());
    lab.hosts[1].client().ok(nodes[0].as_peer());
    // The second has capabilities that the daemon has not, as containers of the usual runtimes do.
    let containers = [NamespaceConfinement::NoCapabilities, NamespaceConfinement::None].map(Namespace::container);
    let near = lab.hosts[0].client().attach(containers[0].pid(), "web");
    let far = lab.hosts[1].client().attach(containers[1].pid(), "web");
    assert!(pings(&containers[0], far) && pings(&containers[1], near));
    transfer(&containers[0], &containers[1], far, 100_000).unwrap_or_else(|error| panic!("{error}"));
    assert!(pings(&containers[0], lab::OUTSIDE.into()));
    let mut client = lab.hosts[0].client();
    client.detach(containers[0].pid());
    client.ok(Request::TeardownGlobalOverlay);
    drop(client);
    lab.hosts[0].comes_back_to(&before);
}

#[test]
fn the_bounds_of_the_packaged_unit_are_wide_enough() {
    if !lab::available() {
        return;
    }
    if std::env::var("OVERLAYD_WIREGUARD").is_ok_and(|which| which == "kernel") {
        println!("SKIPPED: guests' kernels have no seccomp; the system calls are the same");
        return;
    }
    let mut lab = crate::lab(2, &Underlay::default());
    let before = lab.hosts[0].facts();
    let mut nodes: Vec<Node> = Vec::new();
    for (number, host) in lab.hosts.iter_mut().enumerate() {
        let mut client = host.start_with(HostPrivileges::Unit(unit()));
        let status = fs::read_to_string(format!("/proc/{}/status", host.daemon_pid())).expect("the process runs");
        assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "{status}");
        assert_eq!(capabilities(host.daemon_pid()), CAP_NET_ADMIN | CAP_SYS_ADMIN | CAP_NET_BIND_SERVICE);
        nodes.push(LabCluster::V4.raise(&mut client, number, &["web"], host.v4()));
    }
    lab.hosts[0].client().ok(nodes[1].as_peer());
    lab.hosts[1].client().ok(nodes[0].as_peer());
    let containers = [NamespaceConfinement::NoCapabilities, NamespaceConfinement::None].map(Namespace::container);
    let near = lab.hosts[0].client().attach(containers[0].pid(), "web");
    let far = lab.hosts[1].client().attach(containers[1].pid(), "web");
    assert!(pings(&containers[0], far) && pings(&containers[1], near));
    transfer(&containers[0], &containers[1], far, 100_000).unwrap_or_else(|error| panic!("{error}"));
    let host = &mut lab.hosts[0];
    let mut client = host.client();
    // A name is answered at port 53 of the node's address.
    client.ok(Request::RegisterDns { name: "db".into(), ip: far });
    // What drifts is put right, and a restart takes everything up.
    host.run(&["ip", "link", "set", &nodes[0].device, "down"]);
    client.status_until(|status| status.drift.is_some());
    assert!(client.status().drift.is_some());
    host.kill();
    let mut client = host.start_with(HostPrivileges::Unit(unit()));
    assert!(pings(&containers[0], far));
    client.detach(containers[0].pid());
    client.ok(Request::TeardownGlobalOverlay);
    drop(client);
    let log = host.log();
    let is_denial = |line: &&str| ["not permitted", "ermission denied"].iter().any(|words| line.contains(words));
    let denied: Vec<&str> = log.lines().filter(is_denial).collect();
    assert!(denied.is_empty(), "{denied:#?}");
    host.comes_back_to(&before);
}

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/overlayd.service")
}

/// The effective set of a process.
fn capabilities(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("Linux says it");
    u64::from_str_radix(line.trim(), 16).expect("a number")
}
