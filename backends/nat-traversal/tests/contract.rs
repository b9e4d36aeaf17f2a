//! The rules of `Nat`, and what is found on hosts of our own making, each in a network namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;

use overlayd_core::contract::{Candidate, CandidateKind, Nat, NatPlan};
use overlayd_nat_traversal::NatTraversal;
use overlayd_netlink::Netns;
use overlayd_testkit::contract::nat::NatHarness;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

struct Here(NatTraversal);

impl NatHarness for Here {
    fn backend(&self) -> &dyn Nat {
        &self.0
    }
}

/// The calling thread is on a host of its own afterwards, with these set up.
fn host(setup: &[&str]) -> Here {
    let netns = Netns::create().unwrap();
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&netns), Some(LinkNameSpaceType::Network)).unwrap();
    for arguments in ["link set lo up"].iter().chain(setup) {
        ip(arguments);
    }
    Here(NatTraversal)
}

const UPLINK: [&str; 4] = [
    "link add up0 type veth peer name far0",
    "addr add 192.0.2.4/24 dev up0",
    "link set up0 up",
    "route add default via 192.0.2.1 dev up0",
];

#[expect(clippy::disallowed_methods, reason = "the host is made with other hands than the backend's")]
fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn found(here: &Here) -> Vec<Candidate> {
    let plan = NatPlan { listen_port: 51820, stun_servers: vec!["stun.example.net:3478".into()], max_candidates: 6 };
    here.backend().discover(&plan).await.unwrap()
}

#[tokio::test]
async fn the_addresses_of_the_uplink_are_candidates_with_the_port_of_the_device() {
    let more = ["addr add 2001:db8::4/64 dev up0 nodad", "route add default via 2001:db8::1 dev up0"];
    let here = host(&[&UPLINK[..], &more].concat());
    let host =
        |address: &str| Candidate { kind: CandidateKind::Host, address: address.parse().unwrap(), priority: 100 };
    assert_eq!(found(&here).await, [host("192.0.2.4:51820"), host("[2001:db8::4]:51820")]);
}

#[tokio::test]
async fn a_default_route_into_an_overlay_does_not_hide_the_uplink() {
    let overlay = [
        "link add zl-other-g type veth peer name zl-far",
        "addr add 10.77.4.1/16 dev zl-other-g",
        "link set zl-other-g up",
        "route add default dev zl-other-g metric 0",
    ];
    let uplink = [&UPLINK[..3], &["route add default via 192.0.2.1 dev up0 metric 100"]].concat();
    let here = host(&[&uplink[..], &overlay].concat());
    let addresses: Vec<String> = found(&here).await.iter().map(|found| found.address.to_string()).collect();
    assert_eq!(addresses, ["192.0.2.4:51820"]);
}

#[tokio::test]
async fn a_host_without_an_uplink_has_no_candidate() {
    assert_eq!(found(&host(&[])).await, []);
}

overlayd_testkit::nat_contract!(async { host(&UPLINK) });
