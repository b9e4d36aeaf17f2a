//! Isolation networks: who reaches whom, with real packets. Needs root.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::net::IpAddr;

use common::{Bench, V4, V6, container, ip, service_ip};
use ipnet::IpNet;
use overlayd_core::contract::{AttachPlan, Attacher, AttachmentId, Egress, FencePlan, Inbound, PortProtocol, Target};
use overlayd_linux_bridge::TableProtection;
use overlayd_testkit::lab::{
    Namespace,
    probe::{ReachPath, ReachService, WAYS, is_cut_off, pings, reaches},
};

/// The same test for both families.
macro_rules! both_families {
    ($($name:ident: $test:path;)*) => {
        mod ipv4 { $(#[tokio::test] async fn $name() { $test(super::Bench::new(super::V4)).await; })* }
        mod ipv6 { $(#[tokio::test] async fn $name() { $test(super::Bench::new(super::V6)).await; })* }
    };
}

both_families! {
    every_cell_of_the_table_is_kept: super::table;
    members_only_lets_in_members_this_node_and_the_outside: super::members_only;
    a_member_behind_the_overlay_device_is_fenced: super::address;
    a_process_on_the_host_is_fenced: super::host_process;
    a_flushed_fence_is_back_after_the_next_call: super::flush;
    members_cost_the_same_however_many_there_are: super::cost;
    a_fence_that_is_said_twice_or_withdrawn_leaves_nothing: super::leftovers;
    a_new_process_keeps_the_fences_of_the_old_one: super::restart;
}

fn fence(bench: &Bench, network: &str, inbound: Inbound) -> Option<FencePlan> {
    Some(FencePlan {
        network: network.into(),
        reachable: vec![IpNet::from(ip(bench.family.node))],
        overlay: vec![bench.family.cluster.parse().unwrap()],
        inbound,
    })
}

/// Two bridges: on the first, two members of one network, one of another and one of none; on the second, the same.
struct Yard {
    bench: Bench,
    people: Vec<(&'static str, Namespace, IpAddr)>,
}

impl Yard {
    async fn new(bench: Bench, inbound: Inbound) -> Self {
        let web = bench.web();
        let db = bench.network("lbt-db", bench.family.db, Egress::Masquerade);
        bench.outside.run(&["ip", "route", "add", "default", "via", bench.family.uplink]);
        let mut people = Vec::new();
        for (network, residents) in
            [(&web, ["red", "red too", "blue", "free"]), (&db, ["far red", "-", "-", "far free"])]
        {
            bench.backend.ensure_network(network).await.unwrap();
            for (number, name) in (2..).zip(residents) {
                let one = container();
                let mut plan = bench.plan(&one, network, number);
                if name.contains("red") {
                    plan.fence = fence(&bench, "red", inbound);
                } else if name == "blue" {
                    plan.fence = fence(&bench, "blue", inbound);
                }
                bench.backend.attach(&plan).await.unwrap();
                people.push((name, one, service_ip(&plan)));
            }
        }
        Self { bench, people }
    }

    fn who(&self, name: &str) -> (&Namespace, IpAddr) {
        let family = self.bench.family;
        match name {
            "remote" => (&self.bench.remote, ip(family.remote)),
            "outside" => (&self.bench.outside, ip(family.outside)),
            "node" => (&self.bench.host, ip(family.node)),
            name => self.people.iter().find(|(known, ..)| *known == name).map(|(_, one, at)| (one, *at)).unwrap(),
        }
    }

    fn passes(&self, from: &str, to: &str) {
        let ((sender, _), (receiver, at)) = (self.who(from), self.who(to));
        for way in WAYS {
            assert!(reaches(sender, receiver, at, way), "{from} does not reach {to} at {at} by {way:?}");
        }
    }

    fn is_dropped(&self, from: &str, to: &str) {
        let ((sender, _), (receiver, at)) = (self.who(from), self.who(to));
        for way in WAYS {
            assert!(is_cut_off(sender, receiver, at, way), "{from} reaches {to} at {at} by {way:?}");
        }
    }
}

async fn table(bench: Bench) {
    let yard = Yard::new(bench, Inbound::Anyone).await;
    for (from, to) in [
        ("red", "red too"),
        ("red too", "red"),
        ("red", "far red"),
        ("far red", "red"),
        ("red", "node"),
        ("red", "outside"),
        ("free", "red"),
        ("far free", "red"),
        ("remote", "red"),
        ("node", "red"),
        ("free", "far free"),
        ("free", "remote"),
    ] {
        yard.passes(from, to);
    }
    for (from, to) in [
        ("red", "blue"),
        ("blue", "red"),
        ("far red", "blue"),
        ("blue", "far red"),
        ("red", "free"),
        ("red", "far free"),
        ("red", "remote"),
    ] {
        yard.is_dropped(from, to);
    }
}

async fn members_only(bench: Bench) {
    let yard = Yard::new(bench, Inbound::MembersOnly).await;
    for (from, to) in [("red", "red too"), ("far red", "red"), ("node", "red"), ("red", "outside")] {
        yard.passes(from, to);
    }
    for (from, to) in [("free", "red"), ("far free", "red"), ("remote", "red"), ("blue", "red"), ("red", "remote")] {
        yard.is_dropped(from, to);
    }
}

fn at_address(bench: &Bench, id: AttachmentId, address: IpAddr) -> AttachPlan {
    AttachPlan {
        id,
        target: Target::Address(address),
        known: None,
        service: None,
        overlay: None,
        resolver: None,
        fence: fence(bench, "red", Inbound::Anyone),
        ports: vec![],
    }
}

async fn address(bench: Bench) {
    let yard = Yard::new(bench, Inbound::Anyone).await;
    let backend = &yard.bench.backend;
    yard.passes("remote", "free");
    let plan = at_address(&yard.bench, AttachmentId::Edge("laptop".into()), ip(yard.bench.family.remote));
    let attached = backend.attach(&plan).await.unwrap();
    yard.passes("remote", "red");
    yard.passes("red", "remote");
    yard.passes("remote", "node");
    yard.is_dropped("remote", "free");
    yard.is_dropped("remote", "blue");
    let seen = backend.observe().await.unwrap().attachments;
    assert!(seen.iter().any(|one| one.id == plan.id && one.alive), "{seen:?}");
    assert_eq!(backend.attach(&plan).await.unwrap(), attached);
    backend.detach(&plan.id).await.unwrap();
    yard.passes("remote", "free");
    yard.is_dropped("red", "remote");
}

async fn host_process(bench: Bench) {
    let yard = Yard::new(bench, Inbound::Anyone).await;
    let own = yard.bench.family.lost;
    let bits = if ip(own).is_ipv4() { 32 } else { 128 };
    let alias = format!("{own}/{bits}");
    let nodad: &[&str] = if bits == 128 { &["nodad"] } else { &[] };
    yard.bench.host.run(&[&["ip", "addr", "add", &alias, "dev", "lo"], nodad].concat());
    let (free, red) = (yard.who("free").1, yard.who("red").1);
    let host = &yard.bench.host;
    let [free, red] = [free, red].map(|at| ReachService::start(yard.receiver(at), (at, 0).into(), PortProtocol::Udp));
    let arrives = |at: &ReachService| at.asked_by(host, at.address(), Some(ip(own))).is_some();
    assert!(arrives(&free));
    let plan = at_address(&yard.bench, AttachmentId::Host("web".into()), ip(own));
    yard.bench.backend.attach(&plan).await.unwrap();
    assert!(arrives(&red) && free.is_unheard_by(host, free.address(), Some(ip(own))));
    assert!(is_cut_off(yard.who("blue").0, host, ip(own), ReachPath::Udp), "another network's member reaches it");
    assert!(reaches(yard.who("red").0, host, ip(own), ReachPath::Udp));
    yard.bench.backend.detach(&plan.id).await.unwrap();
    assert!(arrives(&free));
}

impl Yard {
    fn receiver(&self, at: IpAddr) -> &Namespace {
        self.people.iter().find(|(.., address)| *address == at).map(|(_, one, _)| one).unwrap()
    }
}

async fn flush(bench: Bench) {
    // As on a kernel that has no tables of one's own.
    let bench = Bench::with(bench.family, TableProtection::None);
    let yard = Yard::new(bench, Inbound::Anyone).await;
    let plan = at_address(&yard.bench, AttachmentId::Edge("laptop".into()), ip(yard.bench.family.remote));
    let backend = &yard.bench.backend;
    backend.attach(&plan).await.unwrap();
    let before = yard.bench.host.run(&["nft", "list", "ruleset"]);
    yard.bench.host.run(&["nft", "flush", "ruleset"]);
    let seen = backend.observe().await.unwrap().attachments;
    assert!(seen.iter().all(|one| one.id != plan.id), "a fence that is gone is not observed: {seen:?}");
    backend.attach(&plan).await.unwrap();
    assert_eq!(sorted(&yard.bench.host.run(&["nft", "list", "ruleset"])), sorted(&before));
    yard.bench.host.run(&["nft", "flush", "ruleset"]);
    backend.ensure_network(&yard.bench.web()).await.unwrap();
    assert_eq!(sorted(&yard.bench.host.run(&["nft", "list", "ruleset"])), sorted(&before));
    yard.is_dropped("red", "blue");
    yard.passes("red", "red too");
}

/// Elements are listed in no particular order.
fn sorted(ruleset: &str) -> Vec<String> {
    let mut words: Vec<String> = ruleset.split([',', '\n']).map(|word| word.replace(['{', '}'], "")).collect();
    words.iter_mut().for_each(|word| *word = word.replace("elements =", "").trim().to_owned());
    words.sort();
    words
}

async fn cost(bench: Bench) {
    const MEMBERS: u8 = 12;
    let web = bench.web();
    bench.backend.ensure_network(&web).await.unwrap();
    let (mut sizes, mut kept) = (Vec::new(), Vec::new());
    for number in 2..2 + MEMBERS {
        let one = container();
        let mut plan = bench.plan(&one, &web, number);
        plan.fence = fence(&bench, "red", Inbound::MembersOnly);
        bench.backend.attach(&plan).await.unwrap();
        kept.push(one);
        let listed = bench.host.run(&["nft", "-j", "list", "ruleset"]);
        let rules = listed.matches("{\"rule\":").count();
        let elements = listed.matches("\"comment\": \"pid:").count();
        sizes.push((rules, elements));
    }
    let (rules, per_member) = (sizes[0].0, sizes[0].1);
    assert!(per_member > 0);
    for (count, size) in (1..).zip(&sizes) {
        assert_eq!(*size, (rules, per_member * count), "with {count} members");
    }
}

async fn leftovers(bench: Bench) {
    let (one, web) = (container(), bench.web());
    bench.backend.ensure_network(&web).await.unwrap();
    let list = || bench.host.run(&["nft", "list", "ruleset"]);
    let before = list();
    let mut plan = bench.plan(&one, &web, 2);
    plan.fence = fence(&bench, "red", Inbound::MembersOnly);
    let first = bench.backend.attach(&plan).await.unwrap();
    let fenced = list();
    assert_eq!(bench.backend.attach(&plan).await.unwrap(), first);
    assert_eq!(list(), fenced);
    plan.fence = None;
    bench.backend.attach(&plan).await.unwrap();
    assert!(pings(&one, ip(bench.family.remote)), "a fence can be taken away");
    bench.backend.detach(&plan.id).await.unwrap();
    assert_eq!(list(), before);
    let edge = at_address(&bench, AttachmentId::Edge("laptop".into()), ip(bench.family.remote));
    bench.backend.attach(&edge).await.unwrap();
    bench.backend.detach(&edge.id).await.unwrap();
    assert_eq!(list(), before);
    bench.backend.remove_network(&web.name).await.unwrap();
    assert_eq!(list(), "");
    bench.backend.attach(&edge).await.unwrap();
    assert_ne!(list(), "");
    bench.backend.detach(&edge.id).await.unwrap();
    assert_eq!(list(), "");
}

async fn restart(bench: Bench) {
    let mut yard = Yard::new(bench, Inbound::Anyone).await;
    let edge = at_address(&yard.bench, AttachmentId::Edge("laptop".into()), ip(yard.bench.family.remote));
    yard.bench.backend.attach(&edge).await.unwrap();
    let before = yard.bench.host.run(&["nft", "list", "ruleset"]);
    yard.bench.restart();
    let seen = yard.bench.backend.observe().await.unwrap().attachments;
    assert!(seen.iter().any(|one| one.id == edge.id && one.alive), "{seen:?}");
    assert_eq!(seen.len(), 9);
    // The first call of the new process must not open what it was not told of yet.
    yard.bench.backend.ensure_network(&yard.bench.web()).await.unwrap();
    assert_eq!(sorted(&yard.bench.host.run(&["nft", "list", "ruleset"])), sorted(&before));
    yard.is_dropped("red", "blue");
    yard.passes("red", "red too");
    for one in seen {
        yard.bench.backend.detach(&one.id).await.unwrap();
    }
    let left = yard.bench.host.run(&["nft", "list", "ruleset"]);
    assert!(!left.contains("comment") && !left.contains("leaving-") && !left.contains("members4-"), "{left}");
}
