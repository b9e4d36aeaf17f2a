//! Whose the tables are: ours while we run, there for the next process after that. Needs root and Linux 6.9.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::{Duration, Instant};

use common::{Bench, V4, V6, container, ip, service_ip};
use ipnet::IpNet;
use overlayd_core::contract::{AttachPlan, Attacher, Error, FencePlan, HandoverOutcome, HandoverPart, Inbound};
use overlayd_linux_bridge::TableProtection;
use overlayd_netlink::nft::{Family, Nft, Tenure, claim_table};
use overlayd_testkit::lab::{
    Namespace,
    probe::{ReachPath, is_cut_off, reaches},
};

/// Two members of one network and a container of none, on one bridge.
struct Three {
    bench: Bench,
    members: [(Namespace, AttachPlan); 2],
    other: (Namespace, AttachPlan),
}

impl Three {
    async fn new(bench: Bench) -> Self {
        let web = bench.web();
        bench.backend.ensure_network(&web).await.unwrap();
        let plan = |number, fence| {
            let one = container();
            let plan = AttachPlan { fence, ..bench.plan(&one, &web, number) };
            (one, plan)
        };
        let fence = || {
            Some(FencePlan {
                network: "red".into(),
                reachable: vec![IpNet::from(ip(bench.family.node))],
                overlay: vec![bench.family.cluster.parse().unwrap()],
                inbound: Inbound::Anyone,
            })
        };
        let (members, other) = ([plan(2, fence()), plan(3, fence())], plan(4, None));
        for (_, plan) in members.iter().chain([&other]) {
            bench.backend.attach(plan).await.unwrap();
        }
        Self { bench, members, other }
    }

    fn assert_fenced(&self, when: &str) {
        let [(one, _), (two, second)] = &self.members;
        let at = service_ip;
        assert!(reaches(one, two, at(second), ReachPath::Udp), "members are apart {when}");
        assert!(is_cut_off(one, &self.other.0, at(&self.other.1), ReachPath::Udp), "the fence is open {when}");
    }

    fn table(&self) -> String {
        let listed = self.bench.host.run(&["nft", "list", "tables"]);
        listed.lines().find_map(|line| line.strip_prefix("table inet ")).expect("a table").to_owned()
    }

    /// The ruleset without what says whose it is.
    fn rules(&self) -> Vec<String> {
        let listed = self.bench.host.run(&["nft", "list", "ruleset"]);
        let whose = |line: &str| line.starts_with("\tflags ");
        let lines = listed.lines().filter(|line| !whose(line));
        let words = lines.flat_map(|line| line.split(['{', '}', ',', '#'])).map(|words| words.trim().to_owned());
        let mut words: Vec<String> =
            words.filter(|words| !words.is_empty() && !words.starts_with("progname")).collect();
        words.sort();
        words
    }
}

#[tokio::test]
async fn a_flush_of_the_ruleset_leaves_our_rules() {
    for family in [V4, V6] {
        let three = Three::new(Bench::new(family)).await;
        let before = three.rules();
        three.bench.host.run(&["nft", "flush", "ruleset"]);
        assert_eq!(three.rules(), before);
        three.assert_fenced("after a flush");
    }
}

#[tokio::test]
async fn nobody_else_changes_our_tables() {
    let three = Three::new(Bench::new(V4)).await;
    let table = three.table();
    for family in ["inet", "bridge"] {
        for words in [vec!["delete", "table"], vec!["flush", "table"]] {
            let command = [&["nft"][..], &words, &[family, &table]].concat();
            let refused = three.bench.host.try_run(&command).unwrap_err();
            assert!(refused.contains("not permitted"), "{refused}");
        }
    }
    three.assert_fenced("after others tried to change it");
}

#[tokio::test]
async fn our_rules_outlive_the_process_and_the_next_one_holds_them_from_its_start() {
    let mut three = Three::new(Bench::new(V6)).await;
    let before = three.rules();
    three.bench.restart();
    assert_eq!(three.rules(), before);
    three.assert_fenced("in the next process");
    // The old process ended after the new one began, whose first call takes the tables over.
    three.bench.backend.ensure_network(&three.bench.web()).await.unwrap();
    three.bench.host.run(&["nft", "flush", "ruleset"]);
    assert_eq!(three.rules(), before);
    three.assert_fenced("in the next process, after a flush");
}

#[tokio::test]
async fn tables_that_anybody_may_change_become_ours_at_the_first_change() {
    let mut three = Three::new(Bench::with(V4, TableProtection::None)).await;
    let before = three.rules();
    three.bench.host.run(&["nft", "add", "rule", "inet", &three.table(), "forward", "accept"]);
    three.bench.restart_with(TableProtection::Held);
    three.bench.backend.ensure_network(&three.bench.web()).await.unwrap();
    assert_eq!(three.rules(), before);
    three.bench.host.run(&["nft", "flush", "ruleset"]);
    three.assert_fenced("after a flush");
}

#[tokio::test]
async fn a_fence_that_cannot_be_put_up_fails_the_attach() {
    let mut three = Three::new(Bench::new(V4)).await;
    let table = three.table();
    three.bench.end();
    let thief = three.bench.host.enter(|| {
        let thief = Nft::here().unwrap();
        let claim = [Family::Inet, Family::Bridge].into_iter().fold(thief.transaction(), |change, family| {
            assert_eq!(thief.tenure(family, &table).unwrap(), Some(Tenure::Orphaned));
            claim_table(change, family, &table)
        });
        thief.commit(claim, thief.generation().unwrap(), "steal a table").unwrap();
        thief
    });
    three.bench.restart();
    let late = container();
    let fence = three.members[0].1.fence.clone();
    let plan = AttachPlan { fence, ..three.bench.plan(&late, &three.bench.web(), 9) };
    let error = three.bench.backend.attach(&plan).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { what, .. } if what.contains(&table)), "{error}");
    assert!(late.try_run(&["ip", "link", "show", "eth0"]).is_err(), "it is plugged in without a fence");
    three.assert_fenced("in the hands of another process");
    drop(thief);
    // A program that another test starts has a copy of the socket between its fork and its exec, and holds the tables so long.
    let observer = three.bench.host.enter(|| Nft::here().unwrap());
    let patience = Instant::now();
    for family in [Family::Inet, Family::Bridge] {
        while observer.tenure(family, &table).unwrap() != Some(Tenure::Orphaned) {
            assert!(patience.elapsed() < Duration::from_secs(10), "the tables of {family:?} are still held");
            std::thread::yield_now();
        }
    }
    three.bench.backend.attach(&plan).await.unwrap();
    assert!(is_cut_off(&late, &three.other.0, service_ip(&three.other.1), ReachPath::Udp));
}

#[tokio::test]
async fn a_handover_releases_the_tables_and_carries_nothing() {
    let bench = Bench::new(V4);
    bench.backend.ensure_network(&bench.web()).await.unwrap();
    let ruleset = bench.host.run(&["nft", "list", "ruleset"]);
    let handover = bench.backend.handover().expect("this backend holds tables");
    assert!(handover.prepare().await.unwrap().is_empty());
    assert_eq!(handover.complete().await.unwrap(), HandoverOutcome::Done);
    let released = bench.host.run(&["nft", "list", "ruleset"]);
    assert_eq!(released.matches("chain ").count(), ruleset.matches("chain ").count(), "the rules stay");
    let part = HandoverPart { name: "device".into(), resources: Vec::new() };
    let error = handover.inherit(vec![part]).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid(what) if what.contains("device")), "{error}");
    handover.inherit(Vec::new()).await.unwrap();
}
