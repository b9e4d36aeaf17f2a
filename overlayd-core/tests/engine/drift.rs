//! What backends tell of drift is put right at once, long before the next pass.

use std::collections::BTreeSet;

use overlayd_core::{
    contract::{AttachmentId, DriftReason, InterfaceChange, NetworkName, OverlayBackend, Target},
    names::LinkName,
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
    node.drift.changed(deleted("zl-bce5df779a-b"));
    until(&node, DriftStatus { healed: 1, ended: 0 }).await;
    assert_eq!(node.host(), host);
}

#[tokio::test]
async fn a_device_that_is_told_to_be_gone_is_back_with_its_peers() {
    let node = Node::ready().await;
    node.ok(add_peer(&some_key(), "198.51.100.1:51820", "10.77.8.0/26")).await;
    let host = node.host();
    node.overlay.vanish(&LinkName::new("zl-atlas-n1-g").unwrap());
    node.drift.changed(deleted("zl-atlas-n1-g"));
    until(&node, DriftStatus { healed: 1, ended: 0 }).await;
    assert_eq!(node.host(), host);
}

/// No backend has reported it yet: the request is the first to find out.
#[tokio::test]
async fn a_peer_that_is_asked_for_while_the_device_is_gone_brings_it_back() {
    let (node, first, second) = (Node::ready().await, some_key(), some_key());
    node.ok(add_peer(&first, "198.51.100.1:51820", "10.77.8.0/26")).await;
    node.overlay.vanish(&LinkName::new("zl-atlas-n1-g").unwrap());
    node.ok(add_peer(&second, "198.51.100.2:51820", "10.77.9.0/26")).await;
    let devices = node.overlay.observe().await.unwrap();
    let keys: BTreeSet<_> = devices[0].peers.iter().map(|peer| peer.public_key).collect();
    assert_eq!(keys, BTreeSet::from([first, second]));
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
    node.drift.attachment(AttachmentId::Process(7), DriftReason::ProcessEnded);
    until(&node, DriftStatus { healed: 0, ended: 1 }).await;
    assert_eq!(node.status().await.services[0].attachments, 1);
    node.start_process(9);
    assert_ne!(node.attach(9).await, ip, "the address rests");
}

#[tokio::test]
async fn what_is_told_of_nobody_s_attachment_is_nothing() {
    let node = Node::ready().await;
    node.drift.attachment(AttachmentId::Process(7), DriftReason::ProcessEnded);
    node.drift.changed(DriftReason::EventsLost);
    until(&node, DriftStatus { healed: 1, ended: 0 }).await;
}

fn deleted(name: &str) -> DriftReason {
    DriftReason::Interface { name: name.into(), change: InterfaceChange::Deleted }
}

/// Waits until so much was put right.
async fn until(node: &Node, wanted: DriftStatus) {
    while node.status().await.drift != Some(wanted) {
        tokio::task::yield_now().await;
    }
}
