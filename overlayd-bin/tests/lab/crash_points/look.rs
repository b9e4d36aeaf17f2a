//! What is on a host and in its containers, without what differs from run to run.

use std::{
    thread,
    time::{Duration, Instant},
};

use overlayd_core::protocol::{Request, Response};
use overlayd_testkit::{
    contract::HostFacts,
    lab::{Host, Namespace},
};

/// How long a host may take to become as wished.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time between two looks, for the daemon to get on.
const PAUSE: Duration = Duration::from_millis(10);
/// What is as it is for this long is settled.
const QUIET: Duration = Duration::from_millis(150);

/// What a container sees of itself.
const INSIDE: [&str; 3] = ["link show", "address show", "route show table all"];

/// Looks until it is as wished, or patience ends; what was seen last.
pub(super) fn until(host: &Host, containers: &[Namespace], wished: &HostFacts) -> HostFacts {
    let start = Instant::now();
    loop {
        let facts = facts(host, containers);
        if facts == *wished || start.elapsed() > PATIENCE {
            return facts;
        }
        thread::sleep(PAUSE);
    }
}

/// Looks until two looks, some time apart, show the same.
pub(super) fn settled(host: &Host, containers: &[Namespace]) -> HostFacts {
    let start = Instant::now();
    let mut last = facts(host, containers);
    loop {
        // Links that were given up are deleted a grace period later, without an event.
        thread::sleep(QUIET);
        let now = facts(host, containers);
        if now == last || start.elapsed() > PATIENCE {
            return now;
        }
        last = now;
    }
}

fn facts(host: &Host, containers: &[Namespace]) -> HostFacts {
    let mut facts: HostFacts = host.facts().iter().filter_map(|fact| lasting(fact)).collect();
    for (number, container) in containers.iter().enumerate() {
        let inside = container.ip(&["-oneline"], &INSIDE);
        facts.extend(inside.lines().filter_map(lasting).map(|fact| format!("container {number}: {fact}")));
    }
    facts.extend(peers(host));
    facts.extend(said(host));
    facts
}

/// The ranges of each peer; some have keys that are made up anew in every run.
fn peers(host: &Host) -> Vec<String> {
    let said = host.run(&["wg", "show", "all", "allowed-ips"]);
    let peers = said.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (device, _key) = (words.next()?, words.next()?);
        let mut ranges: Vec<_> = words.collect();
        ranges.sort_unstable();
        Some(format!("peer of {device}: {ranges:?}"))
    });
    peers.collect()
}

/// What the daemon says is there.
fn said(host: &Host) -> Vec<String> {
    let mut client = host.client();
    let status = client.status();
    let edges = client.ask(Request::ListEdgePeers);
    let Response::EdgePeers { peers: edges } = edges else { panic!("{edges:?}") };
    let services = status.services.iter().map(|service| format!("status: {service:?}"));
    let edges = edges.iter().map(|edge| format!("status: edge {} {} {:?}", edge.name, edge.overlay_ip, edge.allowed));
    let node = format!("status: {:?} {:?}, {} peers", status.interface, status.node_ip, status.peer_count);
    services.chain(edges).chain([node]).collect()
}

/// The fact without numbers of interfaces and namespaces; nothing where it is about addresses that the kernel makes up.
fn lasting(fact: &str) -> Option<String> {
    // A container's loopback stays up.
    if fact.contains("fe80:") || fact.contains(": lo") || fact.contains("dev lo") {
        return None;
    }
    let mut words: Vec<String> = Vec::new();
    let mut skip = false;
    for word in fact.split_whitespace() {
        if std::mem::take(&mut skip) {
            continue;
        }
        match word {
            "link-netnsid" => skip = true,
            // A TUN interface that was taken over has seen its carrier come and go, and says so.
            "state" if fact.starts_with("ip -oneline") => skip = true,
            number if number.strip_suffix(':').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())) => {}
            name => words.push(name.split_once("@if").map_or(name, |(name, _)| name).to_owned()),
        }
    }
    Some(words.join(" "))
}
