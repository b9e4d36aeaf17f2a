use overlayd_core::{
    contract::{Attacher, OverlayBackend},
    protocol::{OverlayMode, PeerScope, PeerSpec, Request, Response, ServiceOverlayInfo},
};
use overlayd_testkit::fake::{CallStage, FaultReaction};

use crate::node::{Node, attach, detach, some_key};

fn setup(service: &str, mode: OverlayMode) -> Request {
    Request::SetupServiceOverlay { service: service.into(), mode }
}

async fn info(node: &Node, service: &str, mode: OverlayMode) -> ServiceOverlayInfo {
    match node.ok(setup(service, mode)).await {
        Response::ServiceOverlay(info) => info,
        response => panic!("{response:?}"),
    }
}

fn peer_of(service: &str, ranges: &str) -> (String, Request) {
    let public_key = some_key().to_base64();
    let peer = PeerSpec {
        public_key: public_key.clone(),
        endpoint: "198.51.100.1:51421".into(),
        allowed_ips: ranges.into(),
        persistent_keepalive_secs: 25,
        candidates: vec![],
    };
    (public_key, Request::AddPeer { peer, scope: PeerScope::Service { service: service.into() } })
}

#[tokio::test]
async fn a_dedicated_service_has_a_device_of_its_own_and_says_the_same_of_it_twice() {
    let node = Node::ready().await;
    let first = info(&node, "db", OverlayMode::Dedicated).await;
    assert_eq!(first.name, "zl-379c1d33b0-b");
    assert_eq!((first.wg_port, first.subnet.as_deref()), (Some(51421), Some("10.77.57.64/26")));
    assert_eq!(first.overlay_ip.unwrap().to_string(), "10.77.57.65");
    assert_eq!(info(&node, "db", OverlayMode::Dedicated).await, first);
    let status = node.status().await;
    assert_eq!(status.dedicated_services[0].interface, "zl-db00cf6ae4-d");
    assert_eq!(status.dedicated_services[0].public_key, first.wg_public_key.unwrap());
}

#[tokio::test]
async fn peers_of_a_dedicated_service_are_on_its_device_with_routes_to_their_blocks() {
    let node = Node::ready().await;
    info(&node, "db", OverlayMode::Dedicated).await;
    let (pubkey, add) = peer_of("db", "10.77.8.64/26");
    node.ok(add).await;
    let scope = PeerScope::Service { service: "db".into() };
    node.ok(Request::AddAllowedIp { pubkey, cidr: "10.77.9.64/26".into(), scope }).await;
    let devices = node.overlay.observe().await.unwrap();
    let peers = |name: &str| devices.iter().find(|device| device.name.as_str() == name).unwrap().peers.len();
    assert_eq!((peers("zl-db00cf6ae4-d"), peers("zl-atlas-n1-g")), (1, 0));
    let host = format!("{:?}", node.overlay.host());
    assert!(host.contains("10.77.8.64/26") && host.contains("10.77.9.64/26"), "{host}");
    let status = node.status().await;
    assert_eq!((status.peer_count, status.dedicated_services[0].peer_count), (0, 1));
}

#[tokio::test]
async fn a_dedicated_identity_is_the_same_after_a_teardown_and_after_a_crash() {
    let node = Node::ready().await;
    let first = info(&node, "db", OverlayMode::Dedicated).await;
    let (_, add) = peer_of("db", "10.77.8.64/26");
    node.ok(add).await;
    let host = node.host();
    let node = node.crash_and_restart().await;
    assert_eq!(node.host(), host);
    node.ok(Request::TeardownServiceOverlay { service: "db".into() }).await;
    assert_eq!(info(&node, "db", OverlayMode::Dedicated).await.wg_public_key, first.wg_public_key);
}

#[tokio::test]
async fn a_dedicated_service_whose_bridge_fails_leaves_neither_device_nor_port() {
    let node = Node::ready().await;
    let before = node.host();
    node.attacher.script().once(
        CallStage::HalfWay,
        |call| call.verb == "ensure_network",
        FaultReaction::fail("no memory"),
    );
    node.refused(setup("db", OverlayMode::Dedicated)).await;
    assert_eq!(node.host(), before);
    assert!(node.status().await.dedicated_services.is_empty());
    assert_eq!(info(&node, "db", OverlayMode::Dedicated).await.wg_port, Some(51421));
}

#[tokio::test]
async fn shared_services_have_one_bridge_and_their_containers_one_block() {
    let node = Node::ready().await;
    let a = info(&node, "a", OverlayMode::Shared).await;
    let b = info(&node, "b", OverlayMode::Shared).await;
    assert_eq!((a.name.as_str(), &a.name, a.mode), ("zl-ccb9da11f-sh", &b.name, OverlayMode::Shared));
    let mut ips = vec![];
    for (service, pid) in [("a", 7), ("b", 8)] {
        node.start_process(pid);
        let Response::Attached(attached) = node.ok(attach(service, pid)).await else { panic!() };
        ips.push(attached.ip.to_string());
    }
    assert_eq!(ips, ["10.77.20.2", "10.77.20.3"]);
    assert_eq!(node.status().await.service_count, 3);
    node.ok(Request::TeardownServiceOverlay { service: "a".into() }).await;
    let networks = node.attacher.observe().await.unwrap().networks;
    let shared = networks.iter().find(|network| network.name.0 == "zl-ccb9da11f-sh").unwrap();
    assert_eq!(shared.members, 1, "the other service's container stays");
}

#[tokio::test]
async fn an_isolated_service_is_reported_as_the_published_client_expects_and_truly_in_status() {
    let node = Node::ready().await;
    assert_eq!(info(&node, "job", OverlayMode::Isolated).await.mode, OverlayMode::Auto);
    let status = node.status().await;
    let mode = status.services.iter().find(|service| service.service == "job").unwrap().mode;
    assert_eq!(mode, OverlayMode::Isolated);
}

#[tokio::test]
async fn the_mode_of_a_service_with_members_does_not_change() {
    let node = Node::ready().await;
    node.start_process(7);
    node.attach(7).await;
    let message = node.refused(setup("web", OverlayMode::Dedicated)).await;
    assert!(message.contains("auto") && message.contains("1 members"), "{message}");
    node.ok(detach(7)).await;
    assert_eq!(info(&node, "web", OverlayMode::Dedicated).await.mode, OverlayMode::Dedicated);
    assert_eq!(node.status().await.service_count, 1);
}

#[tokio::test]
async fn prune_takes_idle_bridges_that_are_not_named_and_no_others() {
    let node = Node::ready().await;
    node.ok(setup("idle", OverlayMode::Auto)).await;
    let named = info(&node, "named", OverlayMode::Auto).await.name;
    let idle = info(&node, "idle", OverlayMode::Auto).await.name;
    node.ok(setup("shared", OverlayMode::Shared)).await;
    node.start_process(7);
    node.attach(7).await;
    let prune = || Request::PruneOrphanBridges { live_bridge_names: vec![named.clone()] };
    assert_eq!(node.ok(prune()).await, Response::PrunedBridges { reclaimed: vec![idle] });
    assert_eq!(node.ok(prune()).await, Response::PrunedBridges { reclaimed: vec![] });
    let services: Vec<String> = node.status().await.services.into_iter().map(|service| service.service).collect();
    assert_eq!(services, ["named", "shared", "web"]);
}
