use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use overlayd_core::{
    contract::{OverlayBackend, PeerStatus},
    ipc::{Caller, CallerIdentity, ConnectionLimits, RequestHandler, ServerContext, serve_connection},
    keys::PublicKey,
    names::LinkName,
    protocol::{Event, Frame, FrameCodec, PeerScope, Request, Response, StatusSnapshot},
};
use overlayd_testkit::fake::{CallStage, FaultReaction};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, broadcast},
};
use tokio_util::{
    bytes::BytesMut,
    codec::{Decoder, Encoder},
    sync::CancellationToken,
};

use crate::node::{Node, add_peer, setup_global, some_key};

fn device() -> LinkName {
    LinkName::new("zl-atlas-n1-g").unwrap()
}

async fn seen(node: &Node, key: &PublicKey) -> Option<PeerStatus> {
    let devices = node.overlay.observe().await.unwrap();
    devices.iter().flat_map(|device| device.peers.iter()).find(|peer| peer.public_key == *key).cloned()
}

async fn ranges(node: &Node, key: &PublicKey) -> Vec<String> {
    seen(node, key).await.unwrap().allowed_ips.iter().map(ToString::to_string).collect()
}

fn allowed_ip(key: &PublicKey, cidr: &str) -> Request {
    Request::AddAllowedIp { pubkey: key.to_base64(), cidr: cidr.into(), scope: PeerScope::Global }
}

#[tokio::test]
async fn a_peer_takes_a_list_of_ranges_and_more_later() {
    let node = Node::ready().await;
    let key = some_key();
    node.ok(add_peer(&key, "198.51.100.23:51820", "10.77.8.0/26,10.77.9.64/26")).await;
    for _ in 0..2 {
        node.ok(allowed_ip(&key, "10.77.200.64/26")).await;
    }
    assert_eq!(ranges(&node, &key).await, ["10.77.8.0/26", "10.77.9.64/26", "10.77.200.64/26"]);
    let remove =
        Request::RemoveAllowedIp { pubkey: key.to_base64(), cidr: "10.77.9.64/26".into(), scope: PeerScope::Global };
    node.ok(remove.clone()).await;
    node.ok(remove).await;
    let status = node.status().await;
    assert_eq!(status.peers[0].allowed_ips, "10.77.8.0/26,10.77.200.64/26");
    assert_eq!(status.peers[0].public_key, key.to_base64());
}

#[tokio::test]
async fn a_repeated_add_updates_and_never_resets_where_the_peer_has_roamed_to() {
    let node = Node::ready().await;
    let key = some_key();
    node.ok(add_peer(&key, "198.51.100.23:51820", "10.77.8.0/26")).await;
    let roamed = "203.0.113.9:40001".parse().unwrap();
    assert!(node.overlay.handshake(&device(), &key, roamed, SystemTime::now()));
    node.ok(add_peer(&key, "198.51.100.23:51820", "10.77.8.0/26,10.77.9.0/26")).await;
    assert_eq!(seen(&node, &key).await.unwrap().endpoint, Some(roamed));
    node.ok(add_peer(&key, "198.51.100.24:51820", "10.77.8.0/26")).await;
    assert_eq!(seen(&node, &key).await.unwrap().endpoint.unwrap().to_string(), "198.51.100.24:51820");
    assert_eq!(node.status().await.peer_count, 1);
}

#[tokio::test]
async fn a_range_belongs_to_the_peer_that_was_given_it_last() {
    let node = Node::ready().await;
    let (a, b) = (some_key(), some_key());
    node.ok(add_peer(&a, "198.51.100.1:51820", "10.77.8.0/26,10.77.9.0/26")).await;
    node.ok(add_peer(&b, "198.51.100.2:51820", "10.77.9.0/26")).await;
    assert_eq!(ranges(&node, &a).await, ["10.77.8.0/26"]);
    assert_eq!(ranges(&node, &b).await, ["10.77.9.0/26"]);
}

#[tokio::test]
async fn a_change_that_the_device_refuses_is_taken_back() {
    let node = Node::ready().await;
    let key = some_key();
    node.ok(add_peer(&key, "198.51.100.1:51820", "10.77.8.0/26")).await;
    node.overlay.script().once(CallStage::Entry, |call| call.verb == "change_peers", FaultReaction::fail("no memory"));
    node.refused(allowed_ip(&key, "10.77.9.0/26")).await;
    assert_eq!(node.status().await.peers[0].allowed_ips, "10.77.8.0/26");
    assert_eq!(ranges(&node, &key).await, ["10.77.8.0/26"]);
}

#[tokio::test]
async fn a_range_that_went_on_to_another_peer_stays_there_when_the_change_before_is_taken_back() {
    let node = Node::ready().await;
    let (first, refused, last) = (some_key(), some_key(), some_key());
    node.ok(add_peer(&first, "198.51.100.1:51820", "10.77.8.0/26,10.77.9.0/26")).await;
    let go = Arc::new(Notify::new());
    let script = node.overlay.script();
    script.once(CallStage::Entry, |call| call.verb == "change_peers", FaultReaction::Wait(Arc::clone(&go)));
    let calls = script.calls().len();
    let engine = Arc::clone(&node.engine);
    let taking = add_peer(&refused, "198.51.100.2:51820", "10.77.8.0/26,10.77.9.0/26");
    let taking = tokio::spawn(async move { engine.answer(taking).await });
    script.called(|call| call.verb == "change_peers" && call.number > calls).await;
    // The device is asked about one change at a time, and refuses what it is asked when it answers.
    script.once(CallStage::HalfWay, |call| call.verb == "change_peers", FaultReaction::fail("no memory"));
    let engine = Arc::clone(&node.engine);
    let moving = add_peer(&last, "198.51.100.3:51820", "10.77.9.0/26");
    let moving = tokio::spawn(async move { engine.answer(moving).await });
    while node.status().await.peer_count < 3 {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    assert!(matches!(taking.await.unwrap(), Response::Err { .. }));
    assert_eq!(moving.await.unwrap(), Response::Ok);
    assert_eq!(ranges(&node, &first).await, ["10.77.8.0/26"]);
    assert_eq!(ranges(&node, &last).await, ["10.77.9.0/26"]);
    assert_eq!(seen(&node, &refused).await, None);
    assert_eq!(node.status().await.peer_count, 2);
}

#[tokio::test]
async fn changes_pipelined_on_one_connection_take_effect_in_their_order() {
    let node = Node::ready().await;
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let closing = CancellationToken::new();
    let service = ServerContext::new(Arc::clone(&node.engine), ConnectionLimits::default(), Arc::default(), closing);
    let caller = Caller { connection: 1, identity: CallerIdentity::InProcess };
    tokio::spawn(async move { serve_connection(theirs, caller, &service).await });
    let keys: Vec<PublicKey> = (0..200).map(|_| some_key()).collect();
    let (mut reading, mut writing) = tokio::io::split(ours);
    let mut bytes = BytesMut::new();
    // All of them claim the same range; the last one has it.
    for (id, key) in (1..).zip(&keys) {
        let request = add_peer(key, "198.51.100.1:51820", "10.77.8.0/26");
        FrameCodec.encode(&Frame::Request { id, request }, &mut bytes).unwrap();
    }
    writing.write_all(&bytes).await.unwrap();
    let (mut said, mut next) = (BytesMut::new(), 1);
    while next <= 200 {
        reading.read_buf(&mut said).await.unwrap();
        while let Some(body) = FrameCodec.decode(&mut said).unwrap() {
            let Frame::Response { id, response } = Frame::decode(&body).unwrap() else { continue };
            assert_eq!((id, response), (next, Response::Ok));
            next += 1;
        }
    }
    for key in &keys[..199] {
        assert!(ranges(&node, key).await.is_empty());
    }
    assert_eq!(ranges(&node, &keys[199]).await, ["10.77.8.0/26"]);
}

#[tokio::test]
async fn a_status_of_many_peers_follows_records_and_device() {
    let node = Node::ready().await;
    let keys: Vec<PublicKey> = (0..300).map(|_| some_key()).collect();
    for (number, key) in keys.iter().enumerate() {
        let (low, high) = (number % 250, number / 250);
        node.ok(add_peer(key, &format!("198.51.100.{low}:5182{high}"), &format!("10.77.{low}.{high}/32"))).await;
    }
    let mut sorted = keys.clone();
    sorted.sort();
    let mut status = node.status().await;
    // Once the last look at the device is over, nothing changes, and nothing is listed again.
    loop {
        let again = node.status().await;
        if again.peers.is_same_list(&status.peers) {
            break;
        }
        status = again;
    }
    assert!(status.peers.iter().map(|peer| peer.public_key.as_str()).eq(sorted.iter().map(PublicKey::to_base64)));
    let find = |status: &StatusSnapshot, key: &PublicKey| {
        status.peers.iter().find(|peer| peer.public_key == key.to_base64()).cloned()
    };
    node.ok(allowed_ip(&keys[7], "10.77.200.64/26")).await;
    assert_eq!(find(&node.status().await, &keys[7]).unwrap().allowed_ips, "10.77.7.0/32,10.77.200.64/26");
    node.ok(Request::RemovePeer { pubkey: keys[9].to_base64(), scope: PeerScope::Global }).await;
    let status = node.status().await;
    assert_eq!((find(&status, &keys[9]), status.peer_count), (None, 299));
    node.overlay.handshake(&device(), &keys[11], "203.0.113.9:4000".parse().unwrap(), SystemTime::now());
    while find(&node.status().await, &keys[11]).unwrap().endpoint != "203.0.113.9:4000" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn peers_that_come_before_the_overlay_are_told_to_it_later() {
    let node = Node::fresh().await;
    let key = some_key();
    node.ok(add_peer(&key, "198.51.100.1:51820", "10.77.8.0/26")).await;
    node.ok(setup_global()).await;
    assert_eq!(ranges(&node, &key).await, ["10.77.8.0/26"]);
}

#[tokio::test]
async fn unknown_peers_are_removed_with_success_and_extended_with_an_error() {
    let node = Node::ready().await;
    let key = some_key();
    node.ok(Request::RemovePeer { pubkey: key.to_base64(), scope: PeerScope::Global }).await;
    let message = node.refused(allowed_ip(&key, "10.77.8.0/26")).await;
    assert!(message.contains("cannot add allowed_ip 10.77.8.0/26 to unknown peer"), "{message}");
    let scope = PeerScope::Service { service: "web".into() };
    let message = node.refused(Request::RemovePeer { pubkey: key.to_base64(), scope }).await;
    assert!(message.contains("no dedicated overlay for service web"), "{message}");
}

#[tokio::test]
async fn members_of_a_peer_that_make_no_sense_are_refused() {
    let node = Node::ready().await;
    let key = some_key();
    for (endpoint, ranges) in [("198.51.100.1", "10.0.0.0/8"), ("198.51.100.1:1", "10.0.0.0/40"), ("a b:1", "")] {
        node.refused(add_peer(&key, endpoint, ranges)).await;
    }
    node.refused(allowed_ip(&key, "nonsense")).await;
    node.refused(Request::RemovePeer { pubkey: "AAAA".into(), scope: PeerScope::Global }).await;
    assert_eq!(node.status().await.peer_count, 0);
}

#[tokio::test]
async fn a_host_name_is_resolved() {
    let node = Node::ready().await;
    let key = some_key();
    node.ok(add_peer(&key, "localhost:51820", "10.77.8.0/26")).await;
    assert!(seen(&node, &key).await.unwrap().endpoint.unwrap().ip().is_loopback());
}

#[tokio::test]
async fn status_tells_unix_time_of_the_handshake_and_clients_hear_that_the_peer_is_healthy() {
    let node = Node::ready().await;
    let key = some_key();
    let mut events = node.engine.events();
    node.ok(add_peer(&key, "0.0.0.0:0", "10.77.8.0/26")).await;
    let at = SystemTime::now() - Duration::from_secs(5);
    assert!(node.overlay.handshake(&device(), &key, "203.0.113.9:40001".parse().unwrap(), at));
    loop {
        let event = events.recv().await.unwrap();
        if *event == (Event::PeerHealthChanged { pubkey: key.to_base64(), healthy: true }) {
            break;
        }
    }
    let peer = &node.status().await.peers[0];
    assert_eq!(peer.endpoint, "203.0.113.9:40001");
    assert_eq!(u64::try_from(peer.last_handshake_unix_secs).unwrap(), at.duration_since(UNIX_EPOCH).unwrap().as_secs());
}

/// Waits until clients have heard all of these.
async fn heard(events: &mut broadcast::Receiver<Arc<Event>>, expected: &[Event]) {
    let mut left = expected.to_vec();
    let hear = async {
        while !left.is_empty() {
            let event = events.recv().await.unwrap();
            left.retain(|wished| *wished != *event);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), hear)
        .await
        .unwrap_or_else(|_| panic!("no client heard {expected:?}"));
}

#[tokio::test]
async fn clients_hear_of_a_peer_that_answers_that_roams_and_that_goes_silent() {
    let node = Node::ready().await;
    let key = some_key();
    let mut events = node.engine.events();
    let healthy = |healthy| Event::PeerHealthChanged { pubkey: key.to_base64(), healthy };
    node.ok(add_peer(&key, "198.51.100.1:51820", "10.77.8.0/26")).await;
    let now = SystemTime::now();
    assert!(node.overlay.handshake(&device(), &key, "198.51.100.1:51820".parse().unwrap(), now));
    heard(&mut events, &[healthy(true)]).await;
    assert!(node.overlay.handshake(&device(), &key, "203.0.113.9:40001".parse().unwrap(), now));
    let moved = Event::NatEndpointChanged { pubkey: key.to_base64(), endpoint: "203.0.113.9:40001".into() };
    heard(&mut events, &[moved]).await;
    // Its session has lived for 180 seconds.
    let ago = now - Duration::from_secs(180);
    assert!(node.overlay.handshake(&device(), &key, "203.0.113.9:40001".parse().unwrap(), ago));
    heard(&mut events, &[healthy(false)]).await;
}
