//! Registered names: who answers them, and when.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use overlayd_core::{
    plan::{DnsConfig, ServeDns},
    protocol::{Request, Response},
};
use overlayd_testkit::fake::{CallStage, FaultReaction};
use tokio::sync::Notify;

use crate::node::{Node, setup_global};

/// The node's overlay address, where names are answered.
fn server() -> SocketAddr {
    "10.77.4.1:53".parse().unwrap()
}

fn register(name: &str, ip: &str) -> Request {
    Request::RegisterDns { name: name.into(), ip: ip.parse().unwrap() }
}

fn unregister(name: &str) -> Request {
    Request::UnregisterDns { name: name.into() }
}

fn answer(node: &Node, name: &str) -> Option<Vec<String>> {
    node.dns.ask(server(), name).map(|ips| ips.iter().map(ToString::to_string).collect())
}

#[tokio::test]
async fn nothing_listens_until_a_name_is_registered() {
    let node = Node::ready().await;
    assert!(node.dns.plan().listen.is_empty());
    node.ok(register("ledger", "10.77.200.66")).await;
    assert_eq!(node.dns.plan().listen, [server()]);
    assert_eq!(answer(&node, "ledger.atlas.local").unwrap(), ["10.77.200.66"]);
}

/// The record of the overlay is there before its address is.
#[tokio::test]
async fn a_name_that_is_registered_while_the_overlay_comes_up_is_answered_once_it_is_up() {
    let node = Node::fresh().await;
    let (go, script) = (Arc::new(Notify::new()), node.overlay.script());
    script.once(CallStage::Entry, |call| call.verb == "ensure_device", FaultReaction::Wait(Arc::clone(&go)));
    node.dns.script().once(
        CallStage::Entry,
        |call| call.verb == "apply",
        FaultReaction::fail("cannot assign requested address"),
    );
    let ask = |request: Request| {
        let engine = Arc::clone(&node.engine);
        tokio::spawn(async move { engine.answer(request).await })
    };
    let coming = ask(setup_global());
    script.called(|call| call.verb == "ensure_device").await;
    let registering = ask(register("ledger", "10.77.200.66"));
    node.dns.script().called(|call| call.verb == "apply").await;
    go.notify_one();
    assert!(matches!(coming.await.unwrap(), Response::BridgeName { .. }));
    assert_eq!(registering.await.unwrap(), Response::Ok);
    assert_eq!(answer(&node, "ledger.atlas.local").unwrap(), ["10.77.200.66"]);
}

#[tokio::test]
async fn a_name_gets_addresses_one_by_one_and_loses_them_at_once() {
    let node = Node::ready().await;
    for ip in ["10.77.4.9", "fd77::9", "10.77.4.9"] {
        node.ok(register("ledger", ip)).await;
    }
    node.ok(register("Ledger.Atlas.local.", "10.77.4.8")).await;
    assert_eq!(answer(&node, "ledger.atlas.local").unwrap(), ["10.77.4.8", "10.77.4.9", "fd77::9"]);
    node.ok(unregister("ledger")).await;
    assert_eq!(answer(&node, "ledger.atlas.local").unwrap(), ["10.77.4.8"]);
    node.ok(unregister("ledger.atlas.local.")).await;
    assert_eq!(answer(&node, "ledger.atlas.local").unwrap(), [""; 0]);
    node.ok(unregister("never-registered")).await;
}

#[tokio::test]
async fn a_name_outside_of_our_zones_is_refused_with_the_zones() {
    let node = Node::ready().await;
    let message = node.refused(register("web.example.com.", "10.77.4.9")).await;
    assert!(message.contains("web.example.com.") && message.contains("atlas.local"), "{message}");
}

#[tokio::test]
async fn names_are_answered_from_the_overlay_on_or_never_where_that_is_configured() {
    let serve = |serve| DnsConfig { serve, ..DnsConfig::default() };
    let always = Node::that_answers(serve(ServeDns::Always)).await;
    assert_eq!(always.dns.plan().listen, [server()]);
    let never = Node::that_answers(serve(ServeDns::Never)).await;
    never.ok(register("ledger", "10.77.4.9")).await;
    assert!(never.dns.plan().listen.is_empty());
}

#[tokio::test]
async fn a_name_in_a_zone_of_ours_is_absolute_with_and_without_the_final_dot() {
    let node = Node::ready().await;
    for (name, ip) in
        [("ledger", "10.77.4.7"), ("ledger.atlas.local", "10.77.4.8"), ("ledger.atlas.local.", "10.77.4.9")]
    {
        node.ok(register(name, ip)).await;
    }
    assert_eq!(answer(&node, "ledger.atlas.local").unwrap(), ["10.77.4.7", "10.77.4.8", "10.77.4.9"]);
    node.ok(unregister("ledger.atlas.local")).await;
    assert_eq!(answer(&node, "ledger.atlas.local").unwrap(), ["10.77.4.7", "10.77.4.9"]);
    assert_eq!(answer(&node, "ledger.atlas.local.atlas.local").unwrap(), [""; 0]);
}

#[tokio::test]
async fn an_absolute_name_before_the_overlay_is_refused_unless_its_zone_is_configured() {
    let zones = BTreeSet::from(["zlayer.local".to_owned()]);
    let node = Node::that_will_answer(DnsConfig { zones, ..DnsConfig::default() }).await;
    let message = node.refused(register("web.example.com.", "10.77.4.9")).await;
    assert!(message.contains("web.example.com.") && message.contains("setup_global_overlay"), "{message}");
    node.ok(register("host.zlayer.local.", "10.77.4.9")).await;
    node.ok(setup_global()).await;
    assert_eq!(answer(&node, "host.zlayer.local").unwrap(), ["10.77.4.9"]);
    node.refused(register("web.example.com.", "10.77.4.9")).await;
}

#[tokio::test]
async fn a_name_that_is_too_long_in_its_zone_takes_no_other_name_along() {
    let node = Node::fresh().await;
    let long = ["x".repeat(63), "y".repeat(63), "z".repeat(63), "w".repeat(61)].join(".");
    node.ok(register(&long, "10.77.4.8")).await;
    node.ok(register("ledger", "10.77.4.9")).await;
    node.ok(setup_global()).await;
    assert_eq!(answer(&node, "ledger.atlas.local").unwrap(), ["10.77.4.9"]);
}

#[tokio::test]
async fn names_registered_before_the_overlay_are_answered_once_it_is_up() {
    let node = Node::fresh().await;
    node.ok(register("early", "10.77.4.9")).await;
    assert!(node.dns.plan().listen.is_empty());
    node.ok(setup_global()).await;
    assert_eq!(answer(&node, "early.atlas.local").unwrap(), ["10.77.4.9"]);
}

#[tokio::test]
async fn a_taken_port_refuses_the_name_but_not_the_overlay() {
    let node = Node::ready().await;
    node.dns.script().once(CallStage::Entry, |call| call.verb == "apply", FaultReaction::fail("port 53 is taken"));
    let message = node.refused(register("ledger", "10.77.4.9")).await;
    assert!(message.contains("answer names"), "{message}");
    node.ok(register("other", "10.77.4.8")).await;
    let records: BTreeSet<String> = node.dns.plan().records.into_keys().collect();
    assert_eq!(records, BTreeSet::from(["other.atlas.local".to_owned()]), "a refused name is forgotten");
}

#[tokio::test]
async fn names_outlive_a_restart_and_a_teardown_silences_them() {
    let node = Node::ready().await;
    node.ok(register("ledger", "10.77.4.9")).await;
    let node = node.crash_and_restart().await;
    assert_eq!(answer(&node, "ledger.atlas.local").unwrap(), ["10.77.4.9"]);
    node.ok(Request::TeardownGlobalOverlay).await;
    assert!(node.dns.plan().listen.is_empty());
    node.ok(setup_global()).await;
    assert_eq!(answer(&node, "ledger.atlas.local").unwrap(), ["10.77.4.9"]);
}

#[tokio::test]
async fn a_further_name_is_told_alone() {
    let node = Node::ready().await;
    node.ok(register("first", "10.77.4.9")).await;
    for name in ["second", "third"] {
        node.ok(register(name, "10.77.4.9")).await;
    }
    let told = [["apply"].as_slice(), &["change_records"; 2]].concat();
    assert_eq!(node.dns.script().verbs(), told);
}
