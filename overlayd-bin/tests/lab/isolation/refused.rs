//! A fence that cannot be put up fails the attach.

use overlayd_core::protocol::{Request, Response};
use overlayd_netlink::nft::{Family, Nft, Transaction, add_held_table, claim_table};
use overlayd_testkit::contract::HostFacts;
use overlayd_testkit::lab::{
    self, Host, LabCluster, Underlay,
    probe::{ReachPath, is_cut_off, pings, reaches},
};

use super::town::{join, membership};
use crate::{container, firewalls::tables_are_held};

/// Another process holds the tables that the daemon left when it was killed, and lets go of them later.
#[test]
fn a_fence_that_cannot_be_put_up_fails_the_attach_and_nothing_is_plugged_in() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    LabCluster::V4.join(&mut lab.hosts, &["web"], Host::v4);
    let host = &mut lab.hosts[0];
    let [first, second, late] = [(); 3].map(|()| container());
    let mut client = host.client();
    join(&mut client, &first, "web", Some("job"), false);
    let at = join(&mut client, &second, "web", None, false);
    if !tables_are_held(host) {
        println!("SKIPPED: before Linux 6.9 no process can keep the daemon from its tables in this way");
        return;
    }
    host.kill();
    let thief = thief(host);
    let mut client = host.start();
    let request = Request::AttachContainer(membership(&late, "web", Some("job")));
    let reply = client.call(request.clone()).expect("an answer");
    let Response::Err { message, .. } = reply else { panic!("it was attached without a fence: {reply:?}") };
    assert!(message.contains("nftables table"), "{message}");
    assert_eq!(late.run(&["ip", "-oneline", "link"]).lines().count(), 1, "it has more than a loopback");
    assert!(is_cut_off(&first, &second, at, ReachPath::Udp), "a fence from before is gone");
    drop(thief);
    let reply = client.ask(request);
    assert!(matches!(reply, Response::Attached(_)), "{reply:?}");
    assert!(is_cut_off(&late, &second, at, ReachPath::Udp) && reaches(&second, &second, at, ReachPath::Udp));
    assert!(pings(&late, client.status().node_ip.expect("a node address")));
}

/// Another process deletes the tables that the daemon left when it was killed, and holds empty ones in their place.
#[test]
fn a_container_whose_fence_is_lost_for_good_is_unplugged_until_it_has_one_again() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    LabCluster::V4.join(&mut lab.hosts, &["web"], Host::v4);
    let host = &mut lab.hosts[0];
    let [fenced, open] = [(); 2].map(|()| container());
    let mut client = host.client();
    join(&mut client, &fenced, "web", Some("job"), false);
    let at = join(&mut client, &open, "web", None, false);
    if !tables_are_held(host) {
        println!("SKIPPED: before Linux 6.9 no process can keep the daemon from its tables in this way");
        return;
    }
    let table = table(host);
    host.kill();
    for family in FAMILIES {
        host.run(&["nft", "delete", "table", if family == Family::Inet { "inet" } else { "bridge" }, &table]);
    }
    assert!(reaches(&fenced, &open, at, ReachPath::Udp), "nothing else keeps them apart");
    let thief = holding(host, |change, family| add_held_table(change, family, &table));
    let mut client = host.start();
    let legs = |facts: &HostFacts| {
        facts.iter().filter(|fact| fact.starts_with("ip -oneline: ") && fact.contains(": veth-")).count()
    };
    assert_eq!(legs(&host.wait_until(|facts| legs(facts) == 0)), 0);
    for container in [&fenced, &open] {
        assert_eq!(container.run(&["ip", "-oneline", "link"]).lines().count(), 1, "it is plugged in without a fence");
    }
    drop(thief);
    assert_eq!(legs(&host.wait_until(|facts| legs(facts) == 2)), 2);
    assert!(pings(&open, client.status().node_ip.expect("a node address")), "it works without a request");
    assert!(is_cut_off(&fenced, &open, at, ReachPath::Udp) && reaches(&open, &open, at, ReachPath::Udp));
}

/// The tables of a daemon.
const FAMILIES: [Family; 2] = [Family::Inet, Family::Bridge];

fn table(host: &Host) -> String {
    let listed = host.run(&["nft", "list", "tables"]);
    listed.lines().find_map(|line| line.strip_prefix("table inet ")).expect("a table of the daemon's").to_owned()
}

fn thief(host: &Host) -> Nft {
    let table = table(host);
    holding(host, |change, family| claim_table(change, family, &table))
}

/// A program that has changed both tables so, and keeps them for as long as it lives.
fn holding(host: &Host, table: impl Fn(Transaction, Family) -> Transaction) -> Nft {
    let thief = host.namespace.enter(Nft::here).expect("nftables");
    let claim = FAMILIES.into_iter().fold(thief.transaction(), table);
    let generation = thief.generation().expect("a generation");
    thief.commit(claim, generation, "hold the tables of a dead daemon").expect("the claim");
    thief
}
