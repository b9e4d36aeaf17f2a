use overlayd_core::protocol::{NatConfigSpec, NatStatusWire, OverlayMode, Request, Response, SetupGlobalOverlay};
use overlayd_testkit::{
    fake::{CallStage, FaultReaction},
    requests::{overlay, service},
};

use crate::node::{Node, add_peer, setup_global, some_key};

fn setup_with(change: impl FnOnce(&mut SetupGlobalOverlay)) -> Request {
    let mut setup = overlay();
    change(&mut setup);
    Request::SetupGlobalOverlay(setup)
}

#[tokio::test]
async fn a_global_setup_names_the_device_and_status_tells_of_it() {
    let node = Node::fresh().await;
    let reply = node.ok(setup_global()).await;
    assert_eq!(reply, Response::BridgeName { name: "zl-atlas-n1-g".into() });
    let status = node.status().await;
    assert_eq!(status.node_ip.unwrap().to_string(), "10.77.4.1");
    assert_eq!(status.overlay_cidr.as_deref(), Some("10.77.0.0/16"));
    assert_eq!(status.slice_cidr.as_deref(), Some("10.77.4.0/26"));
}

#[tokio::test]
async fn a_repeated_setup_forgets_nothing_and_changes_nothing() {
    let node = Node::ready().await;
    node.start_process(7);
    let ip = node.attach(7).await;
    node.ok(add_peer(&some_key(), "198.51.100.23:51820", "10.77.8.0/26")).await;
    let before = node.host();
    node.ok(setup_global()).await;
    node.ok(service("web")).await;
    assert_eq!(node.host(), before);
    assert_eq!(node.attach(7).await, ip);
    assert_eq!(node.status().await.peer_count, 1);
}

#[tokio::test]
async fn a_setup_that_the_host_refuses_leaves_nothing_and_status_claims_nothing() {
    let node = Node::fresh().await;
    node.overlay.script().once(CallStage::HalfWay, |call| call.verb == "ensure_device", FaultReaction::fail("no TUN"));
    let message = node.refused(setup_global()).await;
    assert!(message.contains("zl-atlas-n1-g") && message.contains("no TUN"), "{message}");
    assert!(node.host().is_empty());
    let status = node.status().await;
    assert_eq!((status.interface, status.public_key, status.node_ip), (None, None, None));
    node.ok(setup_global()).await;
}

#[tokio::test]
async fn a_running_overlay_takes_a_new_port_and_refuses_a_new_range() {
    let node = Node::ready().await;
    node.ok(setup_with(|setup| setup.wg_port = 51999)).await;
    let message = node.refused(setup_with(|setup| setup.cluster_cidr = "10.64.0.0/12".into())).await;
    assert!(message.contains("already set up") && message.contains("tear it down"), "{message}");
    assert_eq!(node.status().await.overlay_cidr.as_deref(), Some("10.77.0.0/16"));
}

#[tokio::test]
async fn ranges_that_make_no_sense_are_refused_with_their_text() {
    let node = Node::fresh().await;
    for (cluster, slice) in
        [("here", None), ("10.77.0.0/16", Some("10.78.0.0/26")), ("10.77.0.0/16", Some("10.77.4.0/31"))]
    {
        let message = node
            .refused(setup_with(|setup| {
                setup.cluster_cidr = cluster.into();
                setup.slice_cidr = slice.map(Into::into);
            }))
            .await;
        assert!(message.contains(slice.unwrap_or(cluster)), "{message}");
    }
    assert!(node.host().is_empty());
}

#[tokio::test]
async fn teardown_leaves_nothing_and_setup_starts_afresh() {
    let node = Node::ready().await;
    node.start_process(7);
    node.attach(7).await;
    node.ok(Request::TeardownGlobalOverlay).await;
    assert!(!node.host().iter().any(|line| line.contains("zl-")), "{:?}", node.host());
    assert_eq!(node.status().await.service_count, 0);
    node.ok(setup_global()).await;
    node.ok(service("web")).await;
    assert_eq!(node.attach(7).await.to_string(), "10.77.78.194");
}

#[tokio::test]
async fn a_service_gets_the_block_that_its_name_derives() {
    let node = Node::ready().await;
    let Response::ServiceOverlay(info) = node.ok(service("web")).await else { panic!() };
    assert_eq!((info.name.as_str(), info.mode), ("zl-bce5df779a-b", OverlayMode::Auto));
    assert_eq!(node.status().await.services[0].subnet.as_deref(), Some("10.77.78.192/26"));
}

#[tokio::test]
async fn a_service_without_an_overlay_lives_in_the_default_range() {
    let node = Node::fresh().await;
    node.ok(service("web")).await;
    node.start_process(7);
    assert!(node.attach(7).await.to_string().starts_with("10.200."));
    let message = node.refused(setup_global()).await;
    assert!(message.contains("service web") && message.contains("10.77.0.0/16"), "{message}");
}

#[tokio::test]
async fn what_this_daemon_does_not_do_is_refused_and_never_acknowledged() {
    let node = Node::ready().await;
    let message = node.refused(Request::NatTick).await;
    assert!(message.contains("nat.enabled false"), "{message}");
    let resolver = Request::RemoveScopedResolver { zone: "atlas.internal".into() };
    assert!(node.refused(resolver).await.contains("macOS-only"));
}

#[tokio::test]
async fn disabled_traversal_has_nothing_to_do_and_nothing_to_tell() {
    let node = Node::fresh().await;
    node.ok(setup_with(|setup| setup.nat = Some(NatConfigSpec::default()))).await;
    assert_eq!(node.ok(Request::NatTick).await, Response::Ok);
    assert_eq!(node.ok(Request::NatStatus).await, Response::NatStatus(NatStatusWire::default()));
}
