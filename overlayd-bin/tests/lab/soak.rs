//! Everything comes and goes for a while next to a steady stream, and nothing grows.
//!
//! ```text
//!   containers that come, go and die ── web bridge ── host 0 ════ switch, 1 % lost ════ host 1 ── web bridge ── container
//!   a container that stays ─────────────────┘   ▲       ▲ the cable is pulled now and then                       ▲
//!          └── a datagram every 5 ms ───────────│───────│────────────────────────────────────────────────────────┘
//!                            peers, edges, names come and go; links and rules are deleted
//! ```
//!
//! `OVERLAYD_SOAK_SECS` says for how long; a short run shows leaks of each round, a long one the slow ones.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use overlayd_core::{
    keys::PrivateKey,
    protocol::{PeerScope, PeerSpec, Request},
};
use overlayd_testkit::lab::{
    self, Host, Lab, LabCluster, Namespace, Underlay,
    probe::{PacketPulse, UdpEcho, pings},
};

use crate::container;

/// How long everything comes and goes unless the environment says otherwise.
const USUAL: Duration = Duration::from_secs(20);
/// Rounds before the first count: pools and caches fill.
const WARM_UP: usize = 4;
/// How long the daemon has to give back what it lent.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the daemon and its host hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holdings {
    memory_kib: u64,
    descriptors: u64,
    threads: u64,
    /// Links, addresses, routes, rules and what else there is.
    objects: u64,
}

/// What may come on top by chance: a pool of threads for calls into the kernel, memory that the allocator keeps.
const NOISE: Holdings = Holdings { memory_kib: 24 * 1024, descriptors: 12, threads: 12, objects: 4 };

#[test]
fn nothing_grows_while_everything_comes_and_goes() {
    if !lab::available() {
        return;
    }
    let given = std::env::var("OVERLAYD_SOAK_SECS").ok().and_then(|text| text.parse().ok());
    let duration = given.map_or(USUAL, Duration::from_secs);
    let mut lab = crate::lab(2, &Underlay { loss_per_mille: 10, ..Underlay::default() });
    LabCluster::V4.join(&mut lab.hosts, &["web"], Host::v4);
    let (near, far) = (container(), container());
    lab.hosts[0].client().attach(near.pid(), "web");
    let far_ip = lab.hosts[1].client().attach(far.pid(), "web");
    assert!(pings(&near, far_ip));
    let echo = UdpEcho::start(&far, far_ip);
    let stream = PacketPulse::start(&near, SocketAddr::new(far_ip, echo.port), Duration::from_millis(5));
    for round in 0..WARM_UP {
        churn(&lab, round);
    }
    let before = settled(&lab.hosts[0], None);
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed() < duration {
        churn(&lab, WARM_UP + rounds);
        rounds += 1;
    }
    let after = settled(&lab.hosts[0], Some(before));
    let heard = stream.end();
    println!("{rounds} rounds in {:?}: before {before:?}, after {after:?}; stream {heard:?}", start.elapsed());
    assert!(after.is_within(before), "before {before:?}, after {after:?}");
    assert!(heard.answered * 10 > heard.sent * 6, "{heard:?}");
    assert!(pings(&near, far_ip));
    assert!(!lab.hosts[0].log().contains("panicked"));
    let status = lab.hosts[0].client().status();
    assert_eq!((status.peer_count, status.services[0].attachments), (1, 1));
}

/// One round of everything; at its end all of it is gone again.
fn churn(lab: &Lab, round: usize) {
    let host = &lab.hosts[0];
    let mut client = host.client();
    let guests: Vec<Namespace> = (0..4).map(|_| container()).collect();
    for guest in &guests {
        client.attach(guest.pid(), "web");
    }
    for number in 0..5 {
        client.ok(stranger(round, number));
    }
    let name = format!("visitor-{}", round % 3);
    client.ask(edge(&name));
    client.ok(Request::RegisterDns { name: format!("name-{round}"), ip: "10.77.0.9".parse().expect("an address") });
    match round % 4 {
        0 => pull_the_cable(lab),
        1 => drop(host.run(&["nft", "flush", "ruleset"])),
        2 => drop(host.run(&["ip", "link", "delete", &format!("veth-{}-s", guests[0].pid())])),
        _ => {}
    }
    // One in four dies before it is detached.
    let mut guests = guests;
    drop(guests.pop());
    for guest in &guests {
        client.detach(guest.pid());
    }
    let attached = client.status_until(|status| status.services[0].attachments == 1).services[0].attachments;
    assert_eq!(attached, 1, "a container that died is still attached");
    for number in 0..5 {
        client.ok(Request::RemovePeer { pubkey: key(round, number), scope: PeerScope::Global });
    }
    client.ok(Request::RevokeEdgePeer { name });
    client.ok(Request::UnregisterDns { name: format!("name-{round}") });
}

fn pull_the_cable(lab: &Lab) {
    lab.core.run(&["ip", "link", "set", "port1", "down"]);
    lab.core.run(&["ip", "link", "set", "port1", "up"]);
}

fn key(round: usize, number: u8) -> String {
    let mut bytes = [number + 1; 32];
    bytes[..8].copy_from_slice(&(round as u64 + 1).to_le_bytes());
    PrivateKey::from_bytes(bytes).public_key().to_base64()
}

fn stranger(round: usize, number: u8) -> Request {
    Request::AddPeer {
        peer: PeerSpec {
            public_key: key(round, number),
            endpoint: format!("192.0.2.200:{}", 20_000 + u16::from(number)),
            allowed_ips: format!("10.77.250.{number}/32"),
            persistent_keepalive_secs: 0,
            candidates: Vec::new(),
        },
        scope: PeerScope::Global,
    }
}

fn edge(name: &str) -> Request {
    Request::MintEdgePeer {
        name: name.to_owned(),
        ttl_secs: 60,
        allow: Vec::new(),
        node_endpoint: "192.0.2.1:51820".into(),
    }
}

/// What is held once nothing is under way any more: not more than `at_most` and noise, or what it is after a while.
fn settled(host: &Host, at_most: Option<Holdings>) -> Holdings {
    let start = Instant::now();
    let mut last = Holdings::of(host);
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = Holdings::of(host);
        let calm = match at_most {
            Some(bound) => now.is_within(bound),
            None => now.objects == last.objects && now.descriptors == last.descriptors,
        };
        if calm || start.elapsed() > PATIENCE {
            return now;
        }
        last = now;
    }
}

impl Holdings {
    fn of(host: &Host) -> Self {
        let pid = host.daemon_pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon runs");
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says it");
            line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("the daemon runs").count() as u64;
        let objects = host.facts().len() as u64;
        Self { memory_kib: field("VmRSS:"), descriptors, threads: field("Threads:"), objects }
    }

    fn is_within(self, before: Self) -> bool {
        self.memory_kib <= before.memory_kib + NOISE.memory_kib
            && self.descriptors <= before.descriptors + NOISE.descriptors
            && self.threads <= before.threads + NOISE.threads
            && self.objects <= before.objects + NOISE.objects
    }
}
