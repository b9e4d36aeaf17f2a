use overlayd_core::{
    contract::{Attacher, Egress, NetworkName, NetworkPlan, Target},
    engine::Engine,
    protocol::Request,
};

use crate::node::{Node, add_peer, attach, detach, setup_global, some_key};

#[tokio::test]
async fn everything_is_back_after_a_crash_and_nothing_was_touched() {
    let node = Node::ready().await;
    node.start_process(7);
    let ip = node.attach(7).await;
    node.ok(add_peer(&some_key(), "198.51.100.1:51820", "10.77.8.0/26")).await;
    let (host, status) = (node.host(), node.status().await);
    let node = node.crash_and_restart().await;
    assert_eq!(node.host(), host);
    assert_eq!(node.status().await, status);
    assert_eq!(node.attach(7).await, ip);
}

#[tokio::test]
async fn no_address_is_handed_out_twice_across_a_crash() {
    let node = Node::ready().await;
    node.start_process(7);
    node.start_process(8);
    let first = node.attach(7).await;
    let node = node.crash_and_restart().await;
    assert_ne!(node.attach(8).await, first);
}

#[tokio::test]
async fn a_userspace_device_that_died_with_the_daemon_comes_back_with_its_key_and_peers() {
    let node = Node::ready().await;
    let key = some_key();
    node.ok(add_peer(&key, "198.51.100.1:51820", "10.77.8.0/26")).await;
    let host = node.overlay.host();
    node.overlay.vanish(&overlayd_core::names::LinkName::new("zl-atlas-n1-g").unwrap());
    let node = node.crash_and_restart().await;
    assert_eq!(node.overlay.host(), host);
}

#[tokio::test]
async fn a_container_that_died_meanwhile_is_detached_on_start() {
    let node = Node::ready().await;
    node.start_process(7);
    node.attach(7).await;
    node.attacher.stop(&Target::Process(7));
    let node = node.crash_and_restart().await;
    assert_eq!(node.status().await.services[0].attachments, 0);
    node.ok(detach(7)).await;
}

#[tokio::test]
async fn what_no_record_speaks_of_is_removed_on_start() {
    let node = Node::ready().await;
    let before = node.host();
    let stranger = NetworkPlan {
        name: NetworkName("zl-stranger-b".into()),
        guid: None,
        gateways: vec!["10.99.0.1/26".parse().unwrap()],
        mtu: 1420,
        egress: Egress::None,
        overlay: None,
    };
    node.attacher.ensure_network(&stranger).await.unwrap();
    assert_ne!(node.host(), before, "it carries the mark of this instance, and no record speaks of it");
    let node = node.crash_and_restart().await;
    assert_eq!(node.host(), before);
}

#[tokio::test]
async fn a_network_that_vanished_is_made_again_with_its_members() {
    let node = Node::ready().await;
    node.start_process(7);
    let ip = node.attach(7).await;
    node.attacher.vanish(&overlayd_core::contract::NetworkName("zl-bce5df779a-b".into()));
    let node = node.crash_and_restart().await;
    assert_eq!(node.attach(7).await, ip);
    assert!(node.attacher.reaches(&Target::Process(7), "10.77.78.193".parse().unwrap()));
}

#[tokio::test]
async fn the_identity_survives_even_a_teardown() {
    let node = Node::fresh().await;
    node.ok(setup_global()).await;
    let host = node.overlay.host();
    node.ok(Request::TeardownGlobalOverlay).await;
    let node = node.crash_and_restart().await;
    assert!(node.host().is_empty());
    node.ok(setup_global()).await;
    assert_eq!(node.overlay.host(), host, "same key, same device");
}

#[tokio::test]
async fn a_second_engine_on_the_same_state_is_refused() {
    let node = Node::ready().await;
    let backends = overlayd_core::engine::Backends {
        overlay: std::sync::Arc::new(node.overlay.clone()),
        attacher: std::sync::Arc::new(node.attacher.clone()),
        dns: None,
        nat: None,
        drift: Default::default(),
    };
    let config = overlayd_core::engine::EngineConfig::new(node.state_dir().to_owned());
    assert!(Engine::start(config, backends).await.is_err());
    node.start_process(7);
    node.ok(attach("web", 7)).await;
}

#[tokio::test]
async fn a_bridge_and_a_device_that_somebody_deletes_come_back_with_all_that_was_on_them() {
    let node = Node::watchful().await;
    node.start_process(7);
    node.attach(7).await;
    node.ok(add_peer(&some_key(), "198.51.100.1:51820", "10.77.8.0/26")).await;
    let host = node.host();
    node.attacher.vanish(&overlayd_core::contract::NetworkName("zl-bce5df779a-b".into()));
    node.overlay.vanish(&overlayd_core::names::LinkName::new("zl-atlas-n1-g").unwrap());
    while node.host() != host {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_container_that_dies_without_a_word_is_detached_and_its_address_rests() {
    let node = Node::watchful().await;
    node.start_process(7);
    node.attach(7).await;
    node.attacher.stop(&Target::Process(7));
    while node.status().await.services[0].attachments != 0 {
        tokio::task::yield_now().await;
    }
    node.start_process(8);
    assert_eq!(node.attach(8).await.to_string(), "10.77.78.195");
}

#[tokio::test]
async fn a_narrower_underlay_reaches_the_containers() {
    let node = Node::watchful().await;
    node.start_process(7);
    node.attach(7).await;
    node.overlay.set_underlay_mtu(1400);
    while node.attacher.inside(&Target::Process(7)).first().map(|eth0| eth0.mtu) != Some(1320) {
        tokio::task::yield_now().await;
    }
}
