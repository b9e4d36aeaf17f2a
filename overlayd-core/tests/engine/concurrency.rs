use std::{collections::BTreeSet, sync::Arc};

use overlayd_core::protocol::{OverlayMode, PeerScope, Request, Response};
use overlayd_testkit::fake::{CallStage, FaultReaction, RecordedCall};
use tokio::sync::Notify;

use crate::node::{Node, add_peer, attach, detach, some_key};

#[tokio::test]
async fn a_slow_attach_delays_nobody_else() {
    let node = Node::ready().await;
    node.start_process(7);
    node.start_process(8);
    let go = Arc::new(Notify::new());
    node.attacher.script().once(
        CallStage::HalfWay,
        |call| call.verb == "attach" && call.object == "pid 7",
        FaultReaction::Wait(Arc::clone(&go)),
    );
    let engine = Arc::clone(&node.engine);
    let slow = tokio::spawn(async move { engine.answer(attach("web", 7)).await });
    node.attacher.script().called(|call| call.verb == "attach").await;
    node.attach(8).await;
    node.ok(add_peer(&some_key(), "198.51.100.1:51820", "10.77.8.0/26")).await;
    assert_eq!(node.status().await.services[0].attachments, 2);
    go.notify_one();
    assert!(matches!(slow.await.unwrap(), Response::Attached(_)));
}

#[tokio::test]
async fn a_hanging_device_ends_its_own_requests_and_no_others() {
    let node = Node::ready().await;
    node.start_process(7);
    node.overlay.script().always(CallStage::Entry, |call| call.verb != "remove_device", FaultReaction::Hang);
    let peer = node.refused(add_peer(&some_key(), "198.51.100.1:51820", "10.77.8.0/26"));
    let (message, _) = tokio::join!(peer, node.attach(7));
    assert!(message.contains("did not end within"), "{message}");
    node.ok(Request::Shutdown).await;
    node.engine.shutdown_requested().await;
}

#[tokio::test]
async fn a_device_that_hangs_delays_no_peer_of_another() {
    let node = Node::patient().await;
    node.ok(Request::SetupServiceOverlay { service: "db".into(), mode: OverlayMode::Dedicated }).await;
    let device = node.status().await.dedicated_services[0].interface.clone();
    let go = Arc::new(Notify::new());
    let hangs = move |call: &RecordedCall| call.verb == "change_peers" && call.object == device;
    node.overlay.script().once(CallStage::Entry, hangs.clone(), FaultReaction::Wait(Arc::clone(&go)));
    let Request::AddPeer { peer, .. } = add_peer(&some_key(), "198.51.100.1:51421", "10.77.8.0/26") else { panic!() };
    let request = Request::AddPeer { peer, scope: PeerScope::Service { service: "db".into() } };
    let engine = Arc::clone(&node.engine);
    let slow = tokio::spawn(async move { engine.answer(request).await });
    node.overlay.script().called(hangs).await;
    let other = some_key();
    node.ok(add_peer(&other, "198.51.100.2:51820", "10.77.9.0/26")).await;
    node.ok(Request::RemovePeer { pubkey: other.to_base64(), scope: PeerScope::Global }).await;
    assert!(!slow.is_finished());
    go.notify_one();
    assert_eq!(slow.await.unwrap(), Response::Ok);
}

#[tokio::test]
async fn a_hanging_attach_ends_its_own_request_and_no_others() {
    let node = Node::ready().await;
    node.start_process(7);
    node.start_process(8);
    let hangs = |call: &RecordedCall| call.verb == "attach" && call.object == "pid 7";
    node.attacher.script().always(CallStage::Entry, hangs, FaultReaction::Hang);
    let others = async {
        node.attach(8).await;
        node.ok(add_peer(&some_key(), "198.51.100.1:51820", "10.77.8.0/26")).await;
        node.ok(Request::RegisterDns { name: "db".into(), ip: "10.77.4.9".parse().unwrap() }).await;
        node.status().await
    };
    let mut slow = Box::pin(node.refused(attach("web", 7)));
    let status = tokio::select! {
        biased;
        message = &mut slow => panic!("the hanging attach was faster: {message}"),
        status = others => status,
    };
    assert_eq!((status.peer_count, status.services[0].attachments), (1, 2));
    let message = slow.await;
    assert!(message.contains("attach pid 7") && message.contains("did not end within"), "{message}");
    assert_eq!(node.status().await.services[0].attachments, 1);
}

#[tokio::test]
async fn reads_are_answered_while_nothing_on_the_host_ever_ends() {
    let node = Node::ready().await;
    node.overlay.script().always(CallStage::Entry, |_| true, FaultReaction::Hang);
    node.attacher.script().always(CallStage::Entry, |_| true, FaultReaction::Hang);
    node.start_process(7);
    let mut slow = Box::pin(node.refused(attach("web", 7)));
    let reads = async {
        for _ in 0..100 {
            node.status().await;
            node.ok(Request::NatStatus).await;
            node.ok(Request::ListEdgePeers).await;
        }
    };
    tokio::select! {
        biased;
        message = &mut slow => panic!("the hanging attach was faster: {message}"),
        () = reads => {}
    }
    // Even what removes everything ends, and says what it could not do.
    let (_, message) = tokio::join!(slow, node.refused(Request::Shutdown));
    assert!(message.contains("did not end within"), "{message}");
}

#[tokio::test]
async fn the_same_container_attached_by_two_callers_at_once_has_one_address() {
    let node = Node::ready().await;
    node.start_process(7);
    let (a, b) = tokio::join!(node.attach(7), node.attach(7));
    assert_eq!(a, b);
}

#[tokio::test]
async fn a_service_that_goes_takes_a_container_along_that_is_asked_for_in_another() {
    let node = Node::ready().await;
    node.start_process(7);
    node.attach(7).await;
    let go = Arc::new(Notify::new());
    let again = |call: &RecordedCall| call.verb == "attach" && call.object == "pid 7";
    node.attacher.script().once(CallStage::Entry, again, FaultReaction::Wait(Arc::clone(&go)));
    let engine = Arc::clone(&node.engine);
    let elsewhere = tokio::spawn(async move { engine.answer(attach("db", 7)).await });
    until_called_twice(&node, again).await;
    let teardown = node.ok(Request::TeardownServiceOverlay { service: "web".into() });
    let let_go = async {
        // The teardown comes as far as it can.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        go.notify_one();
    };
    tokio::join!(teardown, let_go);
    assert!(matches!(elsewhere.await.unwrap(), Response::Err { .. }));
    let left: Vec<String> = node.attacher.host().into_iter().filter(|fact| fact.contains("pid 7")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn an_edge_that_is_revoked_while_the_overlay_comes_up_is_not_let_in() {
    let node = Node::fresh().await;
    let go = Arc::new(Notify::new());
    let comes_up = |call: &RecordedCall| call.verb == "ensure_device";
    node.overlay.script().once(CallStage::Entry, comes_up, FaultReaction::Wait(Arc::clone(&go)));
    let engine = Arc::clone(&node.engine);
    let set_up = tokio::spawn(async move { engine.answer(crate::node::setup_global()).await });
    node.overlay.script().called(comes_up).await;
    let mint = Request::MintEdgePeer {
        name: "laptop".into(),
        ttl_secs: 3600,
        allow: vec![],
        node_endpoint: "203.0.113.1:51820".into(),
    };
    assert!(matches!(node.ok(mint).await, Response::EdgeConfig(_)));
    node.ok(Request::RevokeEdgePeer { name: "laptop".into() }).await;
    go.notify_one();
    assert!(matches!(set_up.await.unwrap(), Response::BridgeName { .. }));
    assert_eq!(node.status().await.peer_count, 0);
}

/// Waits until it has been called twice.
async fn until_called_twice(node: &Node, matches: impl Fn(&RecordedCall) -> bool) {
    while node.attacher.script().calls().iter().filter(|call| matches(call)).count() < 2 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_at_once_never_share_an_address_and_leave_nothing() {
    let node = Arc::new(Node::ready().await);
    let before = node.host();
    let clients = (0..8u32).map(|client| {
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            let mut held = BTreeSet::new();
            for pid in (0..7).map(|n| 1000 + client * 100 + n) {
                node.start_process(pid);
                held.insert(node.attach(pid).await);
            }
            held
        })
    });
    let mut all = BTreeSet::new();
    for client in clients.collect::<Vec<_>>() {
        for ip in client.await.unwrap() {
            assert!(all.insert(ip), "{ip} was leased twice");
        }
    }
    assert_eq!(all.len(), 56);
    for client in 0..8 {
        for n in 0..7 {
            let pid = 1000 + client * 100 + n;
            node.ok(detach(pid)).await;
            node.attacher.stop(&overlayd_core::contract::Target::Process(pid));
        }
    }
    assert_eq!(node.host(), before);
}
