use std::sync::Arc;

use overlayd_core::{
    engine::{Backends, Engine, EngineConfig},
    keys::PrivateKey,
    legacy::FILE,
    protocol::{OverlayMode, Request, Response, ServiceOverlayInfo},
};
use overlayd_testkit::fake::{FakeAttacher, FakeOverlay};
use serde_json::json;

use crate::node::{Node, setup_global};

/// The file of an earlier daemon with the identity of `db`.
fn file(key: &PrivateKey, port: u16) -> String {
    let public = key.public_key().to_base64();
    let network = json!({"owner": "service:db", "kind": "wg-dedicated", "name": "zl-db00cf6ae4-d", "id": public,
        "subnet": "10.77.57.64/26", "wg_port": port, "wg_private_key": key.reveal_base64(),
        "wg_public_key": public, "interface": "zl-db00cf6ae4-d"});
    json!({"version": 1, "networks": [network]}).to_string()
}

async fn dedicated(node: &Node, service: &str) -> ServiceOverlayInfo {
    let setup = Request::SetupServiceOverlay { service: service.into(), mode: OverlayMode::Dedicated };
    match node.ok(setup).await {
        Response::ServiceOverlay(info) => info,
        response => panic!("{response:?}"),
    }
}

fn is_known(info: &ServiceOverlayInfo, key: &PrivateKey, port: u16) -> bool {
    info.wg_public_key == Some(key.public_key().to_base64()) && info.wg_port == Some(port)
}

#[tokio::test]
async fn a_dedicated_service_is_to_its_peers_who_it_was_under_the_earlier_daemon() {
    let key = PrivateKey::generate();
    let text = file(&key, 51421);
    let node = Node::after_an_earlier_daemon(&text).await;
    let node = node.crash_and_restart().await;
    node.ok(setup_global()).await;
    assert_eq!(dedicated(&node, "web").await.wg_port, Some(51422), "the port of the other service is not given away");
    assert!(is_known(&dedicated(&node, "db").await, &key, 51421));
    let device = node.status().await.dedicated_services.into_iter().find(|device| device.service == "db").unwrap();
    assert_eq!(device.interface, "zl-db00cf6ae4-d");
    node.ok(Request::TeardownServiceOverlay { service: "db".into() }).await;
    assert!(is_known(&dedicated(&node, "db").await, &key, 51421));
    assert_eq!(std::fs::read_to_string(node.state_dir().join(FILE)).unwrap(), text, "the file is only read");
}

#[tokio::test]
async fn the_file_of_an_earlier_daemon_counts_only_until_something_is_recorded() {
    let node = Node::fresh().await;
    node.ok(setup_global()).await;
    let before = dedicated(&node, "db").await;
    std::fs::write(node.state_dir().join(FILE), file(&PrivateKey::generate(), 51430)).unwrap();
    let node = node.crash_and_restart().await;
    assert_eq!(dedicated(&node, "db").await, before);
}

#[tokio::test]
async fn a_key_that_is_there_is_never_replaced() {
    let node = Node::fresh().await;
    node.ok(setup_global()).await;
    let before = dedicated(&node, "db").await;
    std::fs::write(node.state_dir().join(FILE), file(&PrivateKey::generate(), 51430)).unwrap();
    std::fs::remove_file(node.state_dir().join("state.redb")).unwrap();
    let node = node.crash_and_restart().await;
    node.ok(setup_global()).await;
    assert_eq!(dedicated(&node, "db").await.wg_public_key, before.wg_public_key);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_stops_the_start_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    std::fs::write(&path, "{\"version\":1,\"networks\":[{").unwrap();
    let mut config = EngineConfig::new(dir.path().join("state"));
    config.legacy_marker = Some(path.clone());
    let overlay = FakeOverlay::default();
    let backends = Backends {
        overlay: Arc::new(overlay.clone()),
        attacher: Arc::new(FakeAttacher::linux()),
        dns: None,
        nat: None,
        drift: Default::default(),
    };
    let message = Engine::start(config, backends).await.unwrap_err().to_string();
    assert!(message.contains(path.to_str().unwrap()) && message.contains("move it away"), "{message}");
    assert!(overlay.host().is_empty());
}
