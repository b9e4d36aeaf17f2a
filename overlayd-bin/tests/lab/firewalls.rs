//! Other firewalls on the same host: what they would drop is reported, and their flush takes none of the daemon's rules away.
//!
//! ```text
//!   a ── web bridge ── host 0 (with a firewall of its own) ── db bridge ── b
//! ```

use std::net::IpAddr;

use overlayd_core::protocol::Request;
use overlayd_testkit::lab::{
    self, Host, Lab, LabCluster, Namespace, OUTSIDE, Underlay,
    probe::{ReachPath, is_cut_off, pings, reaches},
};

use crate::container;

/// A firewall that was written without the overlay in mind.
const SITE: &str = r#"
table inet site {
    chain input { type filter hook input priority filter; policy drop; iifname "eth0" accept; iifname "lo" accept; }
    chain forward { type filter hook forward priority filter; policy drop; ct state established accept; }
}
table ip old {
    chain FORWARD { type filter hook forward priority 10; counter reject; }
}
table inet harmless {
    chain forward { type filter hook forward priority 20; policy accept; tcp dport 25 drop; }
}
"#;
/// How they make it let the overlay pass.
const MENDED: &str = r#"
insert rule inet site input iifname "zl-*" accept
insert rule inet site forward iifname "zl-*" accept
insert rule inet site forward oifname "zl-*" accept
delete table ip old
"#;

/// A host with a container of each service, and the address of the second one.
fn at_work() -> (Lab, [Namespace; 2], IpAddr) {
    let mut lab = crate::lab(1, &Underlay::default());
    LabCluster::V4.join(&mut lab.hosts, &["web", "db"], Host::v4);
    let ends = [container(), container()];
    let mut client = lab.hosts[0].client();
    client.attach(ends[0].pid(), "web");
    let ip = client.attach(ends[1].pid(), "db");
    assert!(pings(&ends[0], ip));
    (lab, ends, ip)
}

#[test]
fn a_firewall_that_drops_the_overlay_is_named_in_status_and_log_until_it_lets_it_pass() {
    if !lab::available() {
        return;
    }
    let (lab, [a, b], ip) = at_work();
    let host = &lab.hosts[0];
    let mut client = host.client();
    assert_eq!(client.status().obstacles, [""; 0]);
    host.namespace.feed(&["nft", "-f", "-"], SITE);
    assert!(is_cut_off(&a, &b, ip, ReachPath::Udp), "the foreign policy has no effect");
    let expected = [
        "nftables table inet site, chain input: drops what is for this host by its policy",
        "nftables table inet site, chain forward: drops what this host passes on by its policy",
        "nftables table ip old, chain FORWARD: drops what this host passes on by a rule for everything",
    ];
    let status = client.status_until(|status| !status.obstacles.is_empty());
    assert_eq!(sorted(&status.obstacles), sorted(&expected.map(str::to_owned)));
    let (binary, socket) = (crate::overlayd().to_str().expect("a path"), host.socket());
    let shown = host.run(&[binary, "status", "--socket", socket.to_str().expect("a path")]);
    for obstacle in expected {
        assert!(shown.contains(&format!("warning: {obstacle}")), "{shown}");
    }
    host.namespace.feed(&["nft", "-f", "-"], MENDED);
    assert!(reaches(&a, &b, ip, ReachPath::Udp), "what the site accepts passes");
    assert_eq!(client.status_until(|status| status.obstacles.is_empty()).obstacles, [""; 0]);
    let log = host.log();
    for obstacle in expected {
        let told = |word: &str| log.lines().filter(|line| line.contains(word) && line.contains(obstacle)).count();
        assert_eq!((told("WARN"), told("INFO")), (1, 1), "{obstacle}");
    }
}

#[test]
fn a_flush_of_the_ruleset_opens_nothing_or_not_for_long() {
    if !lab::available() {
        return;
    }
    let (lab, [a, b], ip) = at_work();
    let host = &lab.hosts[0];
    let mut client = host.client();
    let member = container();
    super::isolation::join(&mut client, &member, "web", Some("job"), false);
    let ours = |host: &Host| host.facts().iter().filter(|fact| fact.starts_with("nft list: ")).cloned().collect();
    let before: Vec<String> = ours(host);
    host.namespace.feed(&["nft", "-f", "-"], "add table inet site");
    for _ in 0..3 {
        host.run(&["nft", "flush", "ruleset"]);
        if !tables_are_held(host) {
            // Before Linux 6.9 they are put back.
            host.wait_until(|facts| facts.iter().filter(|fact| fact.starts_with("nft list: ")).eq(&before));
        }
        assert!(is_cut_off(&member, &b, ip, ReachPath::Udp), "the fence is gone");
        assert!(pings(&a, IpAddr::from(OUTSIDE)), "egress is gone");
    }
    assert_eq!(ours(host), before);
    client.ok(Request::TeardownGlobalOverlay);
    assert_eq!(host.run(&["nft", "list", "ruleset"]), "", "what only we could remove, we did");
}

/// Whether this kernel has tables that only their owner may take away, and that outlive it.
pub(crate) fn tables_are_held(host: &Host) -> bool {
    let tables = host.run(&["nft", "list", "ruleset"]);
    tables.lines().any(|line| line.starts_with("\tflags owner"))
}

fn sorted(words: &[String]) -> Vec<&String> {
    let mut words: Vec<&String> = words.iter().collect();
    words.sort();
    words
}
