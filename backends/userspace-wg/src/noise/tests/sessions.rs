use std::time::Duration;

use super::world::{Node, World, config, packet};
use crate::noise::{HandshakeLimits, keypair::REJECT_AFTER_TIME};

#[test]
fn packets_that_waited_for_the_handshake_arrive_in_order() {
    let mut world = World::new();
    let mut first = Vec::new();
    for len in 100..110 {
        first.extend(world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", len)));
    }
    assert_eq!(first.len(), 1, "one initiation for all of them");
    world.carry(first, Vec::new());
    let lengths: Vec<usize> = world.b.delivered.iter().map(Vec::len).collect();
    assert_eq!(lengths, (100..110).collect::<Vec<_>>());
    assert_eq!(world.crossed(4), 10, "the packets themselves confirm the session");
}

#[test]
fn a_peer_that_does_not_answer_holds_few_packets_and_loses_the_oldest() {
    let mut world = World::new();
    for len in 100..400 {
        world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", len));
    }
    assert_eq!(world.a.dropped("queue_full"), 300 - 128);
    world.live(Duration::from_secs(6));
    assert_eq!(world.b.delivered.last().map(Vec::len), Some(399));
}

#[test]
fn packets_for_a_peer_that_never_answers_are_given_up_and_counted() {
    let mut world = World::new();
    world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64));
    for _ in 0..1200 {
        world.pass(Duration::from_millis(100));
        world.a.wake(world.now);
    }
    assert_eq!(world.a.dropped("unreachable"), 1);
    assert_eq!(world.a.tunnel.context.staged, 0);
}

#[test]
fn a_lost_initiation_is_repeated() {
    let mut world = World::new();
    world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64));
    world.live(Duration::from_secs(6));
    assert_eq!(world.b.delivered.len(), 1);
}

#[test]
fn both_sides_may_begin_at_once() {
    let mut world = World::new();
    let from_a = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64));
    let from_b = world.b.send(world.now, &packet("10.0.0.2", "10.0.0.1", 64));
    world.carry(from_a, from_b);
    for _ in 0..300 {
        world.live(Duration::from_secs(1));
        world.a_sends(64);
        world.b_sends(64);
    }
    assert_eq!((world.a.delivered.len(), world.b.delivered.len()), (301, 301));
}

#[test]
fn an_old_session_carries_nothing_in_either_direction() {
    let mut world = World::connected();
    let kept = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64)).remove(0);
    world.pass(REJECT_AFTER_TIME);
    world.b.receive(world.now, world.a.address, &kept);
    assert_eq!((world.b.delivered.len(), world.b.dropped("expired")), (0, 1));
    let sent = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64));
    assert_eq!(sent[0][0], 1, "a handshake instead of data");
}

#[test]
fn silence_after_data_begins_a_new_handshake() {
    let mut world = World::connected();
    world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64));
    world.pass(Duration::from_millis(15_400));
    let sent = world.a.wake(world.now);
    assert_eq!(sent.iter().map(|datagram| datagram[0]).collect::<Vec<_>>(), [1]);
}

#[test]
fn keys_are_wiped_when_a_peer_has_been_silent_for_nine_minutes() {
    let mut world = World::connected();
    assert!(world.a.tunnel.context.indices.len() > 0);
    world.live(Duration::from_secs(560));
    for node in [&world.a, &world.b] {
        assert_eq!(node.tunnel.context.indices.len(), 0);
        assert!(node.tunnel.peers.iter().all(|peer| peer.sessions.is_none()));
        assert_eq!(node.tunnel.next_wake(), None, "and nothing is left to do");
    }
}

#[test]
fn an_initiation_is_answered_once_even_after_its_session_was_wiped() {
    let mut world = World::new();
    let initiation = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64)).remove(0);
    assert_eq!(world.b.receive(world.now, world.a.address, &initiation).len(), 1);
    world.live(Duration::from_secs(600));
    let elsewhere = "198.51.100.9:999".parse().unwrap();
    assert!(world.b.receive(world.now, elsewhere, &initiation).is_empty());
    assert_eq!(world.b.dropped("replay"), 1);
    assert_eq!(world.b.endpoint(), Some(world.a.address));
}

#[test]
fn ten_thousand_silent_peers_have_no_session_no_index_and_no_deadline() {
    let mut node = Node::new("192.0.2.1:1000", HandshakeLimits::default());
    let now = World::new().now;
    for number in 0..10_000u32 {
        let mut key = [9; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let range = format!("10.{}.{}.0/24", number >> 8, number & 255);
        let key = overlayd_core::keys::PublicKey::from_bytes(key);
        node.tunnel.set_peer(now.steady, &config(key, Some(node.address), &[&range]));
    }
    assert_eq!(node.tunnel.peers.len(), 10_000);
    assert!(node.tunnel.peers.iter().all(|peer| peer.sessions.is_none() && peer.timers.is_unqueued()));
    assert_eq!((node.tunnel.context.indices.len(), node.tunnel.context.deadlines.len()), (0, 0));
}

#[test]
fn a_greeted_peer_gets_a_handshake_at_once_and_is_left_alone_soon() {
    let mut world = World::new();
    let b = world.b.key;
    world.a.tunnel.start_handshake(world.now.steady, &b);
    assert_eq!(world.a.tunnel.next_wake(), Some(world.now.steady));
    let mut sent = 0;
    for _ in 0..600 {
        sent += world.a.wake(world.now).len();
        world.pass(Duration::from_millis(100));
    }
    assert_eq!(sent, 3, "there was no answer");
    world.a.tunnel.start_handshake(world.now.steady, &b);
    world.live(Duration::from_secs(1));
    assert!(world.b.tunnel.snapshot().peers[0].last_handshake.is_some());
}

#[test]
fn a_busy_peer_has_few_deadlines_however_many_packets_it_sends() {
    let mut world = World::connected();
    for _ in 0..10_000 {
        world.pass(Duration::from_micros(100));
        world.a_sends(64);
    }
    assert!(world.a.tunnel.context.deadlines.len() <= 4, "{}", world.a.tunnel.context.deadlines.len());
}

#[test]
fn a_removed_peer_is_forgotten_and_its_place_is_safe_to_reuse() {
    let mut world = World::connected();
    let late = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64)).remove(0);
    let (a, other) = (world.a.key, Node::new("192.0.2.3:3000", HandshakeLimits::default()));
    world.b.tunnel.remove_peer(&a);
    world.b.tunnel.set_peer(world.now.steady, &config(other.key, None, &["10.0.0.0/8"]));
    world.b.receive(world.now, world.a.address, &late);
    assert!(world.b.delivered.is_empty());
    assert_eq!(world.b.dropped("unknown_index"), 1);
    world.live(Duration::from_secs(20));
    assert_eq!(world.b.tunnel.snapshot().peers[0].rx_bytes, 0);
}

#[test]
fn another_private_key_ends_all_sessions() {
    let mut world = World::connected();
    world.b.tunnel.set_private_key([7; 32]);
    world.a_sends(64);
    assert_eq!((world.b.delivered.len(), world.b.tunnel.context.indices.len()), (0, 0));
}

#[test]
fn a_handshake_by_a_stranger_is_dropped_and_counted() {
    let mut world = World::new();
    let mut stranger = Node::new("192.0.2.3:3000", HandshakeLimits::default());
    let b = world.b.key;
    stranger.tunnel.set_peer(world.now.steady, &config(b, Some(world.b.address), &["10.0.0.2/32"]));
    let initiation = stranger.send(world.now, &packet("10.0.0.9", "10.0.0.2", 64)).remove(0);
    assert!(world.b.receive(world.now, stranger.address, &initiation).is_empty());
    assert_eq!(world.b.dropped("unknown_peer"), 1);
}

#[test]
fn packets_nobody_can_take_are_counted_by_reason() {
    let mut world = World::new();
    let (a, b) = (world.a.key, world.b.key);
    world.a.send(world.now, &packet("10.0.0.1", "10.9.9.9", 64));
    world.a.send(world.now, &[0x45; 7]);
    world.a.tunnel.remove_peer(&b);
    world.a.tunnel.set_peer(world.now.steady, &config(b, None, &["10.0.0.2/32"]));
    world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64));
    for reason in ["no_route", "malformed", "no_endpoint"] {
        assert_eq!(world.a.dropped(reason), 1, "{reason}");
    }
    assert!(world.b.tunnel.has_peer(&a));
}

#[test]
fn the_peers_have_another_version_after_each_change_and_the_same_after_a_look() {
    let mut world = World::connected();
    let (now, other) = (world.now.steady, Node::new("192.0.2.3:3000", HandshakeLimits::default()).key);
    type Made<'a> = &'a dyn Fn(&mut World);
    let changes: [(&str, Made<'_>); 6] = [
        ("a packet arrives", &|world| world.a_sends(64)),
        ("a packet leaves", &|world| world.b_sends(64)),
        ("a peer comes", &|world| world.b.tunnel.set_peer(now, &config(other, None, &["10.0.0.3/32"]))),
        ("a range moves", &|world| world.b.tunnel.set_peer(now, &config(other, None, &["10.0.0.1/32"]))),
        ("a peer goes", &|world| world.b.tunnel.remove_peer(&other)),
        ("all go", &|world| world.b.tunnel.clear_peers()),
    ];
    for (what, change) in changes {
        let before = (world.b.tunnel.peers_version(), world.b.tunnel.peer_statuses());
        world.b.tunnel.snapshot();
        assert_eq!((world.b.tunnel.peers_version(), world.b.tunnel.peer_statuses()), before);
        change(&mut world);
        assert_ne!(world.b.tunnel.peers_version(), before.0, "{what}");
        assert_ne!(world.b.tunnel.peer_statuses(), before.1, "{what}");
    }
}
