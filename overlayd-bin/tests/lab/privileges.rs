//! The daemon under the capability set that its packaged unit grants.
//!
//! ```text
//!   container without capabilities ── web bridge ── host 0 (overlayd: CAP_NET_ADMIN CAP_SYS_ADMIN)
//!                                                     ║ switch
//!   container with all of them     ── web bridge ── host 1 (the same)
//! ```

use std::fs;

use overlayd_core::protocol::Request;
use overlayd_testkit::lab::{
    self, Cluster, Confinement, Namespace, Node, Privileges, Underlay,
    probe::{pings, transfer},
};

/// Bits of linux/capability.h.
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
        let mut client = host.start_with(Privileges::TwoCapabilities);
        assert_eq!(capabilities(host.daemon_pid()), CAP_NET_ADMIN | CAP_SYS_ADMIN);
        nodes.push(Cluster::V4.raise(&mut client, number, &["web"], host.v4()));
    }
    lab.hosts[0].client().ok(nodes[1].as_peer());
    lab.hosts[1].client().ok(nodes[0].as_peer());
    // The second has capabilities that the daemon has not, as containers of the usual runtimes do.
    let containers = [Confinement::NoCapabilities, Confinement::None].map(Namespace::container);
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

/// The effective set of a process.
fn capabilities(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("Linux says it");
    u64::from_str_radix(line.trim(), 16).expect("a number")
}
