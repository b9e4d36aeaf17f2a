//! What backends tell of drift is put right at once, long before the next pass.

use overlayd_core::{
    contract::{AttachmentId, NetworkName, Target},
    protocol::DriftStatus,
};

use crate::node::{Node, add_peer, some_key};

#[tokio::test]
async fn a_network_that_is_told_to_be_gone_is_back_at_once() {
    let node = Node::ready().await;
    node.start_process(7);
    node.attach(7).await;
    let host = node.host();
    node.attacher.vanish(&NetworkName("zl-bce5df779a-b".into()));
    assert_ne!(node.host(), host);
    node.drift.changed("the bridge was deleted");
    until(&node, DriftStatus { healed: 1, ended: 0 }).await;
    assert_eq!(node.host(), host);
}

#[tokio::test]
async fn a_device_that_is_told_to_be_gone_is_back_with_its_peers() {
    let node = Node::ready().await;
    node.ok(add_peer(&some_key(), "198.51.100.1:51820", "10.77.8.0/26")).await;
    let host = node.host();
    node.overlay.vanish(&overlayd_core::names::LinkName::new("zl-atlas-n1-g").unwrap());
    node.drift.changed("the device was deleted");
    until(&node, DriftStatus { healed: 1, ended: 0 }).await;
    assert_eq!(node.host(), host);
}

#[tokio::test]
async fn a_container_that_is_told_to_have_ended_is_detached_and_no_other() {
    let node = Node::ready().await;
    for pid in [7, 8] {
        node.start_process(pid);
    }
    let ip = node.attach(7).await;
    node.attach(8).await;
    node.attacher.stop(&Target::Process(7));
    node.drift.attachment(AttachmentId::Process(7), "its process ended");
    until(&node, DriftStatus { healed: 0, ended: 1 }).await;
    assert_eq!(node.status().await.services[0].attachments, 1);
    node.start_process(9);
    assert_ne!(node.attach(9).await, ip, "the address rests");
}

#[tokio::test]
async fn what_is_told_of_nobody_s_attachment_is_nothing() {
    let node = Node::ready().await;
    node.drift.attachment(AttachmentId::Process(7), "its process ended");
    node.drift.changed("so that there is something to wait for");
    until(&node, DriftStatus { healed: 1, ended: 0 }).await;
}

/// Waits until so much was put right.
async fn until(node: &Node, wanted: DriftStatus) {
    while node.status().await.drift != Some(wanted) {
        tokio::task::yield_now().await;
    }
}
