//! Names that services have by what is attached to them.

use overlayd_core::{
    plan::{DnsConfig, ServiceNames},
    protocol::{AttachHandle, OverlayMode, Request, Response},
};
use overlayd_testkit::{
    fake::{CallStage, FaultReaction},
    requests::{self, service},
};

use crate::node::{Node, attach, detach, setup_global};

async fn node() -> Node {
    Node::that_answers(DnsConfig { service_names: ServiceNames::Attached, ..DnsConfig::default() }).await
}

fn answer(node: &Node, name: &str) -> Vec<String> {
    let ips = node.dns.ask("10.77.4.1:53".parse().unwrap(), name).unwrap_or_default();
    ips.iter().map(ToString::to_string).collect()
}

async fn attached(node: &Node, pid: u32) -> String {
    node.start_process(pid);
    node.attach(pid).await.to_string()
}

#[tokio::test]
async fn a_service_has_no_name_unless_that_is_configured() {
    let node = Node::ready().await;
    attached(&node, 7).await;
    assert!(node.dns.plan().listen.is_empty());
}

#[tokio::test]
async fn a_service_is_answered_with_the_addresses_of_what_is_attached_to_it() {
    let node = node().await;
    assert!(node.dns.plan().listen.is_empty(), "nothing is attached, nothing listens");
    let one = attached(&node, 7).await;
    let two = attached(&node, 8).await;
    assert_eq!(answer(&node, "web.atlas.local"), [one, two.clone()]);
    node.ok(detach(7)).await;
    assert_eq!(answer(&node, "web.atlas.local"), [two]);
    node.ok(detach(8)).await;
    assert!(answer(&node, "web.atlas.local").is_empty());
    let told = [["apply"].as_slice(), &["change_records"; 3]].concat();
    assert_eq!(node.dns.script().verbs(), told, "each change is told alone");
}

#[tokio::test]
async fn guests_and_host_processes_are_part_of_their_service() {
    let node = node().await;
    let mut expected = Vec::new();
    for handle in [AttachHandle::GuestManaged { id: "vm".into() }, AttachHandle::HostShared { id: "agent".into() }] {
        match node.ok(Request::AttachContainer(requests::attach(handle, "web"))).await {
            Response::GuestConfig(config) => expected.push(config.overlay_ip.to_string()),
            Response::Attached(attached) => expected.push(attached.ip.to_string()),
            other => panic!("{other:?}"),
        }
    }
    expected.sort();
    let mut answered = answer(&node, "web.atlas.local");
    answered.sort();
    assert_eq!(answered, expected);
}

#[tokio::test]
async fn a_registered_name_hides_that_of_the_service_until_it_is_unregistered() {
    let node = node().await;
    let name = || String::from("web.atlas.local");
    let one = attached(&node, 7).await;
    node.ok(Request::RegisterDns { name: name(), ip: "10.77.9.9".parse().unwrap() }).await;
    assert_eq!(answer(&node, &name()), ["10.77.9.9"]);
    let two = attached(&node, 8).await;
    assert_eq!(answer(&node, &name()), ["10.77.9.9"]);
    let node = node.crash_and_restart().await;
    assert_eq!(answer(&node, &name()), ["10.77.9.9"]);
    node.ok(Request::UnregisterDns { name: name() }).await;
    assert_eq!(answer(&node, &name()), [one, two]);
}

#[tokio::test]
async fn names_of_services_outlive_a_crash_and_follow_what_is_gone_by_then() {
    let node = node().await;
    attached(&node, 7).await;
    let two = attached(&node, 8).await;
    node.attacher.stop(&overlayd_core::contract::Target::Process(7));
    let node = node.crash_and_restart().await;
    assert_eq!(answer(&node, "web.atlas.local"), [two]);
    node.ok(Request::TeardownGlobalOverlay).await;
    node.ok(setup_global()).await;
    assert!(answer(&node, "web.atlas.local").is_empty());
}

#[tokio::test]
async fn a_refused_attach_leaves_no_address() {
    let node = node().await;
    let one = attached(&node, 7).await;
    node.start_process(8);
    node.attacher.script().once(
        CallStage::HalfWay,
        |call| call.verb == "attach",
        FaultReaction::fail("no buffer space"),
    );
    node.refused(attach("web", 8)).await;
    assert_eq!(answer(&node, "web.atlas.local"), [one]);
}

#[tokio::test]
async fn a_service_that_goes_takes_its_name_along_and_odd_names_have_none() {
    let node = node().await;
    node.ok(service("Odd Name")).await;
    node.start_process(9);
    node.ok(attach("Odd Name", 9)).await;
    attached(&node, 7).await;
    let names: Vec<String> = node.dns.plan().records.into_keys().collect();
    assert_eq!(names, ["web.atlas.local"]);
    node.ok(Request::TeardownServiceOverlay { service: "web".into() }).await;
    assert!(node.dns.plan().records.is_empty());
}

#[tokio::test]
async fn a_responder_that_refuses_delays_names_and_not_containers() {
    let node = Node::that_answers(DnsConfig { service_names: ServiceNames::Attached, ..DnsConfig::default() }).await;
    node.dns.script().once(CallStage::Entry, |call| call.verb == "apply", FaultReaction::fail("port 53 is taken"));
    let one = attached(&node, 7).await;
    assert!(answer(&node, "web.atlas.local").is_empty());
    // A repeated setup is a pass.
    node.ok(setup_global()).await;
    assert_eq!(answer(&node, "web.atlas.local"), std::slice::from_ref(&one));
    node.dns.script().once(CallStage::Entry, |call| call.verb == "change_records", FaultReaction::fail("no memory"));
    let two = attached(&node, 8).await;
    assert_eq!(answer(&node, "web.atlas.local"), std::slice::from_ref(&one));
    node.ok(Request::SetupServiceOverlay { service: "db".into(), mode: OverlayMode::Auto }).await;
    node.ok(setup_global()).await;
    assert_eq!(answer(&node, "web.atlas.local"), [one, two]);
}
