//! Identities that the daemon issues: guests and edges; and processes of the host, which have an address alone.

use std::{collections::BTreeSet, sync::Arc};

use overlayd_core::{
    contract::OverlayBackend,
    protocol::{AttachContainer, AttachHandle, EdgeConfig, GuestOverlayConfig, PeerScope, Request, Response},
};
use overlayd_testkit::{
    fake::{CallStage, FakeAttacher, FaultReaction, RecordedCall},
    requests,
};
use tokio::sync::Notify;

use crate::node::{Node, add_peer, setup_global, some_key};

fn attach_handle(handle: &AttachHandle, isolation: Option<&str>) -> Request {
    let plain = requests::attach(handle.clone(), "web");
    Request::AttachContainer(AttachContainer { isolation_network: isolation.map(Into::into), ..plain })
}

fn guest() -> AttachHandle {
    AttachHandle::GuestManaged { id: "vm-55".into() }
}

fn mint(name: &str, allow: &[&str]) -> Request {
    Request::MintEdgePeer {
        name: name.into(),
        ttl_secs: 900,
        allow: allow.iter().map(ToString::to_string).collect(),
        node_endpoint: "203.0.113.80:51820".into(),
    }
}

async fn guest_config(node: &Node, isolation: Option<&str>) -> GuestOverlayConfig {
    match node.ok(attach_handle(&guest(), isolation)).await {
        Response::GuestConfig(config) => config,
        response => panic!("{response:?}"),
    }
}

async fn edge_config(node: &Node, name: &str, allow: &[&str]) -> EdgeConfig {
    match node.ok(mint(name, allow)).await {
        Response::EdgeConfig(config) => config,
        response => panic!("{response:?}"),
    }
}

/// Public key and AllowedIPs of every peer of the global device.
async fn let_in(node: &Node) -> Vec<(String, String)> {
    let devices = node.overlay.observe().await.unwrap();
    let peers = devices.iter().flat_map(|device| device.peers.iter());
    peers.map(|peer| (peer.public_key.to_base64(), format!("{:?}", peer.allowed_ips))).collect()
}

#[tokio::test]
async fn a_guest_gets_a_config_with_this_node_as_its_only_peer() {
    let node = Node::ready().await;
    let config = guest_config(&node, None).await;
    assert_eq!((config.overlay_ip.to_string().as_str(), config.prefix_len), ("10.77.4.2", 26));
    assert_eq!((config.listen_port, config.peers.len()), (51820, 1));
    assert_eq!(config.peers[0].endpoint, "10.77.4.1:51820");
    assert_eq!(config.peers[0].allowed_ips, "10.77.0.0/16");
    assert_eq!(config.peers[0].persistent_keepalive_secs, 25);
    assert_eq!(let_in(&node).await, [(config.public_key.clone(), "[10.77.4.2/32]".into())]);
    assert_eq!(guest_config(&node, None).await, config, "a repeated request changes nothing");
}

#[tokio::test]
async fn a_guest_survives_a_crash_and_leaves_nothing_when_it_goes() {
    let node = Node::ready().await;
    let before = node.host();
    let config = guest_config(&node, Some("job-88")).await;
    let host = node.host();
    assert!(format!("{host:?}").contains("job-88"));
    let node = node.crash_and_restart().await;
    assert_eq!(node.host(), host);
    assert_eq!(guest_config(&node, Some("job-88")).await, config);
    for _ in 0..2 {
        node.ok(Request::DetachContainer { handle: guest() }).await;
    }
    assert_eq!(node.host(), before);
    assert_ne!(guest_config(&node, None).await.public_key, config.public_key);
}

#[tokio::test]
async fn a_guest_whose_fence_fails_is_not_let_in() {
    let node = Node::ready().await;
    let before = node.host();
    node.attacher.script().once(CallStage::Entry, |call| call.verb == "attach", FaultReaction::fail("no nf_tables"));
    node.refused(attach_handle(&guest(), Some("job-88"))).await;
    assert_eq!(node.host(), before);
}

#[tokio::test]
async fn a_refused_guest_that_cannot_be_cleaned_up_is_never_let_in_later() {
    let node = Node::ready().await;
    let before = node.host();
    node.attacher.script().once(CallStage::Entry, |call| call.verb == "attach", FaultReaction::fail("no nf_tables"));
    node.overlay.script().once(CallStage::Entry, |call| call.verb == "change_peers", FaultReaction::fail("busy"));
    let message = node.refused(attach_handle(&guest(), Some("job-88"))).await;
    assert!(message.contains("no nf_tables"), "{message}");
    let node = node.crash_and_restart().await;
    assert_eq!(node.host(), before);
    assert!(let_in(&node).await.is_empty());
}

#[tokio::test]
async fn guests_and_host_processes_need_the_overlay() {
    let node = Node::fresh().await;
    for handle in [guest(), AttachHandle::HostShared { id: "hs-19".into() }] {
        let message = node.refused(attach_handle(&handle, None)).await;
        assert!(message.contains("requires the global overlay to be set up first"), "{message}");
    }
    assert!(node.refused(mint("laptop-3", &[])).await.contains("global overlay"));
}

#[tokio::test]
async fn a_host_process_has_an_address_on_the_device_while_it_is_attached() {
    let node = Node::ready().await;
    let before = node.host();
    let handle = AttachHandle::HostShared { id: "hs-19".into() };
    for _ in 0..2 {
        let Response::Attached(attached) = node.ok(attach_handle(&handle, None)).await else { panic!() };
        assert_eq!(attached.ip.to_string(), "10.77.4.2");
    }
    let devices = node.overlay.observe().await.unwrap();
    assert!(devices[0].addresses.contains(&"10.77.4.2/32".parse().unwrap()));
    for _ in 0..2 {
        node.ok(Request::DetachContainer { handle: handle.clone() }).await;
    }
    assert_eq!(node.host(), before);
}

#[tokio::test]
async fn an_edge_reaches_what_it_was_granted_as_whole_ranges_and_this_node() {
    let node = Node::ready().await;
    let config = edge_config(&node, " laptop-3 ", &["10.77.200.64/26", "web", "10.77.9.9", " "]).await;
    assert_eq!((config.name.as_str(), config.prefix_len), ("laptop-3", 26));
    assert_eq!(config.peers[0].allowed_ips, "10.77.200.64/26,10.77.78.192/26,10.77.9.9/32,10.77.4.1/32");
    let host = format!("{:?}", node.host());
    assert!(host.contains("edge:laptop-3") && host.contains("10.77.200.64/26"), "{host}");
    let Response::EdgePeers { peers } = node.ok(Request::ListEdgePeers).await else { panic!() };
    assert_eq!(peers[0].allowed, ["10.77.200.64/26", "10.77.78.192/26", "10.77.9.9/32"]);
    assert_eq!(peers[0].expires_at_unix, peers[0].minted_at_unix + 900);
    assert_eq!(peers[0].last_handshake_unix_secs, None);
}

#[tokio::test]
async fn an_edge_without_a_list_is_granted_the_overlay_and_one_with_an_empty_list_nothing() {
    let node = Node::ready().await;
    assert_eq!(edge_config(&node, "all", &[]).await.peers[0].allowed_ips, "10.77.0.0/16");
    let message = node.refused(mint("none", &[" ", ""])).await;
    assert!(message.contains("names nothing"), "{message}");
    for strange in ["nonsense", "192.0.2.0/24"] {
        let message = node.refused(mint("odd", &[strange])).await;
        assert!(message.contains(strange), "{message}");
    }
}

#[tokio::test]
async fn an_edge_is_minted_once_until_it_is_revoked() {
    let node = Node::ready().await;
    let before = node.host();
    edge_config(&node, "laptop-3", &["web"]).await;
    assert!(node.refused(mint("laptop-3", &["web"])).await.contains("is already minted; revoke it before re-minting"));
    for _ in 0..2 {
        node.ok(Request::RevokeEdgePeer { name: "laptop-3".into() }).await;
    }
    assert_eq!(node.host(), before);
    edge_config(&node, "laptop-3", &["web"]).await;
    for (name, endpoint) in
        [(" ", "203.0.113.80:51820"), ("x", "0.0.0.0:51820"), ("x", "gw"), ("x", "gw:0"), ("x", " ")]
    {
        let request =
            Request::MintEdgePeer { name: name.into(), ttl_secs: 1, allow: vec![], node_endpoint: endpoint.into() };
        node.refused(request).await;
    }
}

#[tokio::test]
async fn what_cannot_be_fenced_again_is_kept_out_until_it_can() {
    let node = Node::watchful().await;
    let guest = guest_config(&node, Some("job-88")).await;
    let edge = edge_config(&node, "laptop-3", &["web"]).await;
    let open = edge_config(&node, "all", &[]).await;
    let let_in_keys =
        async |node: &Node| -> BTreeSet<String> { let_in(node).await.into_iter().map(|(key, _)| key).collect() };
    let all = BTreeSet::from([guest.public_key, edge.public_key, open.public_key.clone()]);
    assert_eq!(let_in_keys(&node).await, all);
    let fails = |host: &FakeAttacher| {
        host.script().always(CallStage::Entry, |call| call.verb == "attach", FaultReaction::fail("no nf_tables"));
    };
    let node = node.crash_and_restart_on(fails).await;
    assert_eq!(let_in_keys(&node).await, BTreeSet::from([open.public_key]));
    node.attacher.script().calm();
    let again = async {
        while let_in_keys(&node).await != all {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), again).await.unwrap();
}

#[tokio::test]
async fn no_edge_is_let_in_before_its_fence_stands_or_while_it_is_revoked() {
    let node = Node::patient().await;
    for (verb, request) in
        [("attach", mint("laptop-3", &["web"])), ("detach", Request::RevokeEdgePeer { name: "laptop-3".into() })]
    {
        let go = Arc::new(Notify::new());
        let fences = move |call: &RecordedCall| call.verb == verb && call.object == "edge laptop-3";
        node.attacher.script().once(CallStage::Entry, fences, FaultReaction::Wait(Arc::clone(&go)));
        let engine = Arc::clone(&node.engine);
        let asked = tokio::spawn(async move { engine.answer(request).await });
        node.attacher.script().called(fences).await;
        // A repeated setup tells the device all peers on record, as every pass does.
        node.ok(setup_global()).await;
        assert!(let_in(&node).await.is_empty(), "the edge is let in before the end of {verb}");
        go.notify_one();
        assert!(!matches!(asked.await.unwrap(), Response::Err { .. }));
        assert_eq!(let_in(&node).await.len(), usize::from(verb == "attach"));
    }
}

#[tokio::test]
async fn no_guest_is_let_in_before_its_fence_stands_or_while_it_is_detached() {
    let node = Node::patient().await;
    for (verb, request) in
        [("attach", attach_handle(&guest(), Some("job-88"))), ("detach", Request::DetachContainer { handle: guest() })]
    {
        let go = Arc::new(Notify::new());
        let fences = move |call: &RecordedCall| call.verb == verb && call.object == "guest vm-55";
        node.attacher.script().once(CallStage::Entry, fences, FaultReaction::Wait(Arc::clone(&go)));
        let engine = Arc::clone(&node.engine);
        let asked = tokio::spawn(async move { engine.answer(request).await });
        node.attacher.script().called(fences).await;
        // A repeated setup tells the device all peers on record, as every pass does.
        node.ok(setup_global()).await;
        assert!(let_in(&node).await.is_empty(), "the guest is let in before the end of {verb}");
        go.notify_one();
        assert!(!matches!(asked.await.unwrap(), Response::Err { .. }));
        assert_eq!(let_in(&node).await.len(), usize::from(verb == "attach"));
    }
}

#[tokio::test]
async fn an_edge_survives_a_crash_and_a_teardown_ends_it() {
    let node = Node::ready().await;
    edge_config(&node, "laptop-3", &["web"]).await;
    let host = node.host();
    let node = node.crash_and_restart().await;
    assert_eq!(node.host(), host);
    node.ok(Request::TeardownGlobalOverlay).await;
    assert!(node.host().is_empty(), "{:?}", node.host());
    assert_eq!(node.ok(Request::ListEdgePeers).await, Response::EdgePeers { peers: vec![] });
}

#[tokio::test]
async fn an_edge_ends_when_its_time_is_over_and_not_at_the_next_sweep() {
    let node = Node::ready().await;
    let before = node.host();
    edge_config(&node, "phone", &["web"]).await;
    let lasting = node.host();
    let short = Request::MintEdgePeer {
        name: "laptop".into(),
        ttl_secs: 1,
        allow: vec!["web".into()],
        node_endpoint: "203.0.113.80:51820".into(),
    };
    node.ok(short).await;
    assert_ne!(node.host(), lasting);
    let over = async {
        while node.host() != lasting {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), over).await.unwrap();
    let Response::EdgePeers { peers } = node.ok(Request::ListEdgePeers).await else { panic!() };
    assert_eq!(peers.into_iter().map(|peer| peer.name).collect::<Vec<_>>(), ["phone"]);
    node.ok(Request::RevokeEdgePeer { name: "phone".into() }).await;
    assert_eq!(node.host(), before);
}

#[tokio::test]
async fn a_refused_edge_that_cannot_be_cleaned_up_is_never_let_in_and_goes_later() {
    let node = Node::ready().await;
    let before = node.host();
    node.attacher.script().once(CallStage::Entry, |call| call.verb == "attach", FaultReaction::fail("no nf_tables"));
    node.overlay.script().once(CallStage::Entry, |call| call.verb == "change_peers", FaultReaction::fail("busy"));
    let message = node.refused(mint("laptop-3", &["web"])).await;
    assert!(message.contains("no nf_tables"), "{message}");
    let node = node.crash_and_restart().await;
    assert!(let_in(&node).await.is_empty());
    let gone = async {
        while node.ok(Request::ListEdgePeers).await != (Response::EdgePeers { peers: vec![] }) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.unwrap();
    assert_eq!(node.host(), before);
    edge_config(&node, "laptop-3", &["web"]).await;
}

#[tokio::test]
async fn an_issued_identity_is_no_peer_to_be_changed_or_robbed() {
    let node = Node::ready().await;
    let config = guest_config(&node, None).await;
    let remove = Request::RemovePeer { pubkey: config.public_key.clone(), scope: PeerScope::Global };
    assert!(node.refused(remove).await.contains("issued by this node"));
    node.refused(add_peer(&some_key(), "198.51.100.1:51820", "10.77.4.2/32")).await;
    assert_eq!(let_in(&node).await.len(), 1);
}
