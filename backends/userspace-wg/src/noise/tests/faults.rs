//! One test for each fault that the audited fork of our Noise library lists as found in the original.

use std::{collections::HashSet, num::NonZeroU16, time::Duration};

use super::world::{MTU, Node, World, config, packet, psk};
use crate::{
    datagram::DATA_OVERHEAD,
    noise::{HandshakeLimits, PeerEdit, session::REJECT_AFTER_MESSAGES},
};

#[test]
fn packets_are_padded_to_sixteen_bytes_but_not_beyond_the_mtu() {
    let mut world = World::connected();
    for len in [20, 21, 64, 65, 1399, 1400, 1410, usize::from(MTU)] {
        let sent = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", len)).remove(0);
        let inner = sent.len() - DATA_OVERHEAD;
        assert!(inner.is_multiple_of(16) || inner == usize::from(MTU), "{len} became {inner}");
        assert!(inner >= len && inner <= usize::from(MTU));
        world.b.receive(world.now, world.a.address, &sent);
        assert_eq!(world.b.delivered.pop().unwrap(), packet("10.0.0.1", "10.0.0.2", len), "padding is cut off again");
    }
}

#[test]
fn a_peer_follows_any_authenticated_packet_to_its_new_address() {
    let mut world = World::connected();
    let elsewhere = "198.51.100.9:999".parse().unwrap();
    let sent = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64)).remove(0);
    world.b.receive(world.now, elsewhere, &sent);
    assert_eq!(world.b.endpoint(), Some(elsewhere));
}

#[test]
fn a_forged_or_repeated_packet_moves_no_endpoint() {
    let mut world = World::connected();
    let elsewhere = "198.51.100.9:999".parse().unwrap();
    let sent = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64)).remove(0);
    world.b.receive(world.now, world.a.address, &sent);
    world.b.receive(world.now, elsewhere, &sent);
    let mut forged = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64)).remove(0);
    *forged.last_mut().unwrap() ^= 1;
    world.b.receive(world.now, elsewhere, &forged);
    assert_eq!(world.b.endpoint(), Some(world.a.address));
    assert_eq!((world.b.dropped("replay"), world.b.dropped("bad_auth")), (1, 1));
}

#[test]
fn a_cookie_reply_moves_no_endpoint_and_the_peer_connects_with_it() {
    let mut world = World::with_limits(HandshakeLimits { unproved_per_source: 0, ..HandshakeLimits::default() });
    let initiation = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64)).remove(0);
    let reply = world.b.receive(world.now, world.a.address, &initiation).remove(0);
    assert_eq!(reply[0], 3, "under load a cookie comes back");
    world.a.receive(world.now, "198.51.100.9:999".parse().unwrap(), &reply);
    assert_eq!(world.a.endpoint(), Some(world.b.address));
    world.live(Duration::from_secs(12));
    assert_eq!(world.b.delivered.len(), 1, "the packet waited for the handshake");
}

#[test]
fn a_hundred_handshakes_long_ago_do_not_make_the_next_one_suspicious() {
    let mut world = World::new();
    for _ in 0..150 {
        world.pass(Duration::from_secs(6));
        let initiation = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64)).remove(0);
        world.b.receive(world.now, world.a.address, &initiation);
    }
    assert_eq!(world.b.dropped("cookie_sent"), 0);
}

#[test]
fn a_changed_psk_counts_from_the_next_handshake_and_the_session_goes_on() {
    let mut world = World::connected();
    let (a, b) = (world.a.key, world.b.key);
    world.a.tunnel.edit_peer(world.now.steady, &b, &PeerEdit::Psk(psk(1)));
    world.a_sends(64);
    assert_eq!(world.b.delivered.len(), 1, "the session goes on");
    world.live(Duration::from_secs(181));
    world.a_sends(64);
    world.live(Duration::from_secs(1));
    assert_eq!(world.b.delivered.len(), 1, "one side alone has the new key");
    world.b.tunnel.edit_peer(world.now.steady, &a, &PeerEdit::Psk(psk(1)));
    world.live(Duration::from_secs(12));
    assert_eq!(world.b.delivered.len(), 2, "both sides have it");
}

#[test]
fn a_session_that_has_carried_all_its_messages_carries_no_more() {
    let mut world = World::connected();
    let peer = world.a.tunnel.peers.iter_mut().next().unwrap().1;
    peer.sessions().current.as_mut().unwrap().session.pretend_sent(REJECT_AFTER_MESSAGES);
    world.pass(Duration::from_secs(6));
    let sent = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64));
    assert_eq!((sent.len(), sent[0][0]), (1, 1), "a handshake instead of data");
    world.carry(sent, Vec::new());
    assert_eq!(world.b.delivered.len(), 1, "and the packet on the new session");
}

#[test]
fn a_counter_beyond_the_limit_is_refused_before_it_is_decrypted() {
    let mut world = World::connected();
    let mut sent = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64)).remove(0);
    for counter in [REJECT_AFTER_MESSAGES, u64::MAX] {
        sent[8..16].copy_from_slice(&counter.to_le_bytes());
        world.b.receive(world.now, world.a.address, &sent);
    }
    assert_eq!(world.b.dropped("expired"), 2);
}

#[test]
fn a_peer_may_not_send_from_a_range_within_its_own_that_another_peer_holds() {
    let mut world = World::connected();
    let (a, other) = (world.a.key, Node::new("192.0.2.3:3000", HandshakeLimits::default()));
    world.b.tunnel.set_peer(world.now.steady, &config(a, None, &["10.0.0.0/8"]));
    world.b.tunnel.set_peer(world.now.steady, &config(other.key, None, &["10.0.0.1/32"]));
    world.a_sends(64);
    assert!(world.b.delivered.is_empty());
    assert_eq!(world.b.dropped("bad_source"), 1);
}

#[test]
fn two_idle_peers_fall_silent() {
    let mut world = World::connected();
    world.b_sends(64);
    world.live(Duration::from_secs(30));
    world.wire.clear();
    world.live(Duration::from_secs(60));
    assert_eq!(world.wire.len(), 0, "keepalives that answer keepalives never end");
}

#[test]
fn a_single_packet_is_answered_by_a_keepalive_ten_seconds_later() {
    let mut world = World::connected();
    world.live(Duration::from_secs(60));
    world.wire.clear();
    world.a_sends(64);
    world.live(Duration::from_secs(9));
    assert_eq!(world.wire.len(), 1);
    world.live(Duration::from_secs(2));
    assert_eq!(world.wire.len(), 2);
}

#[test]
fn a_persistent_keepalive_is_sent_only_over_a_silent_tunnel() {
    let mut world = World::connected();
    let b = world.b.key;
    world.a.tunnel.edit_peer(world.now.steady, &b, &PeerEdit::Keepalive(NonZeroU16::new(5)));
    world.live(Duration::from_secs(1));
    world.wire.clear();
    for _ in 0..20 {
        world.live(Duration::from_secs(1));
        world.a_sends(64);
    }
    let from_a = world.wire.iter().filter(|(from, _)| *from == world.a.address);
    assert_eq!(from_a.filter(|(_, datagram)| datagram.len() == DATA_OVERHEAD).count(), 0);
    world.wire.clear();
    world.live(Duration::from_secs(21));
    assert!(world.wire.iter().filter(|(from, _)| *from == world.a.address).count() >= 3);
}

#[test]
fn a_session_is_renewed_once_in_two_minutes_and_nothing_is_lost() {
    let mut world = World::connected();
    for _ in 0..600 {
        world.live(Duration::from_secs(1));
        world.a_sends(64);
        world.b_sends(64);
    }
    assert_eq!((world.a.delivered.len(), world.b.delivered.len()), (600, 600));
    assert!((4..=5).contains(&world.crossed(1)), "{} handshakes in ten minutes", world.crossed(1));
}

#[test]
fn a_response_that_takes_seconds_still_counts() {
    let mut world = World::new();
    let initiation = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64)).remove(0);
    let response = world.b.receive(world.now, world.a.address, &initiation);
    world.pass(Duration::from_millis(4900));
    world.carry(Vec::new(), response);
    assert_eq!(world.b.delivered.len(), 1);
}

#[test]
fn repeated_initiations_do_not_keep_a_beat() {
    let mut pauses = HashSet::new();
    for _ in 0..20 {
        let mut world = World::new();
        world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64));
        let pause = world.a.tunnel.next_wake().unwrap().since(world.now.steady);
        assert!(pause >= Duration::from_secs(5) && pause < Duration::from_millis(5334), "{pause:?}");
        pauses.insert(pause);
    }
    assert!(pauses.len() > 1);
}

#[test]
fn session_indices_tell_nothing_about_peers() {
    let mut seen = HashSet::new();
    for _ in 0..50 {
        let mut world = World::new();
        let initiation = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64)).remove(0);
        seen.insert(u32::from_le_bytes(initiation[4..8].try_into().unwrap()) >> 8);
    }
    assert!(seen.len() >= 49 && seen.iter().any(|index| *index > 1000), "{seen:?}");
}

#[test]
fn a_clock_that_steps_back_harms_nothing() {
    let mut world = World::connected();
    let ahead = world.now;
    world.now.steady = crate::noise::SteadyTime::from_nanos(1);
    world.a_sends(64);
    world.b_sends(64);
    world.live(Duration::from_secs(1));
    world.now = ahead;
    world.a_sends(64);
    assert_eq!((world.a.delivered.len(), world.b.delivered.len()), (1, 2));
}

#[test]
fn the_window_takes_a_late_packet_once() {
    let mut world = World::connected();
    let sent: Vec<_> =
        (0..1000).map(|_| world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64)).remove(0)).collect();
    for datagram in sent.iter().rev().chain(&sent) {
        world.b.receive(world.now, world.a.address, datagram);
    }
    assert_eq!((world.b.delivered.len(), world.b.dropped("replay")), (1000, 1000));
}
