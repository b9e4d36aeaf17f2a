//! Two tunnels of one device, one after the other: the older hands over, the younger takes over, and their peer sees
//! nothing but a handshake.

use std::time::Duration;

use super::world::{Node, World, packet};
use crate::noise::{HandshakeLimits, SuccessorTraffic, Tunnel};

/// The device of `a`, as two processes have it: `world.a` is the older.
struct Handover {
    world: World,
    younger: Node,
}

impl Handover {
    /// The older one stands aside, and the younger one knows what it knew.
    fn begin(mut world: World) -> Self {
        let private = *world.a.tunnel.private_key().as_bytes();
        let mut younger = Node::new("192.0.2.1:1000", HandshakeLimits::default());
        younger.tunnel.set_private_key(private);
        for exported in world.a.tunnel.begin_handover(world.now.steady) {
            younger.tunnel.import_peer(world.now.steady, &exported);
        }
        Self { world, younger }
    }

    /// A datagram from `b` as it comes to the socket: what the older one leaves aside goes to the younger.
    fn arrives(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let World { a, b, now, .. } = &mut self.world;
        let mut replies = a.receive(*now, b.address, datagram);
        for item in a.tunnel.take_successor_traffic() {
            match item {
                SuccessorTraffic::Datagram(from, datagram) => {
                    replies.extend(self.younger.receive(*now, from, &datagram))
                }
                SuccessorTraffic::Packet(packet) => replies.extend(self.younger.send(*now, &packet)),
            }
        }
        replies
    }

    /// Datagrams of either tunnel go to `b`, and its answers come back, until there are no more.
    fn carry(&mut self, mut to_b: Vec<Vec<u8>>) {
        while !to_b.is_empty() {
            let World { a, b, now, .. } = &mut self.world;
            let answers: Vec<_> = to_b.iter().flat_map(|datagram| b.receive(*now, a.address, datagram)).collect();
            to_b = answers.iter().flat_map(|datagram| self.arrives(datagram)).collect();
        }
    }

    fn b_sends(&mut self, len: usize) {
        let sent = self.world.b.send(self.world.now, &packet("10.0.0.2", "10.0.0.1", len));
        let answers = sent.iter().flat_map(|datagram| self.arrives(datagram)).collect();
        self.carry(answers);
    }

    fn older_sends(&mut self, len: usize) {
        let sent = self.world.a.send(self.world.now, &packet("10.0.0.1", "10.0.0.2", len));
        self.carry(sent);
    }

    fn younger_greets(&mut self) {
        self.world.pass(Tunnel::HANDSHAKE_SPACING);
        let key = self.world.b.key;
        self.younger.tunnel.start_handshake(self.world.now.steady, &key);
        let sent = self.younger.wake(self.world.now);
        assert_eq!(sent.len(), 1, "an initiation");
        self.carry(sent);
    }
}

#[test]
fn packets_flow_in_both_directions_before_and_after_the_younger_tunnel_has_its_session() {
    let mut both = Handover::begin(World::connected());
    both.b_sends(100);
    both.older_sends(100);
    assert_eq!((both.world.a.delivered.len(), both.world.b.delivered.len()), (1, 1), "by the older one's session");
    let (key, now) = (both.world.b.key, both.world.now.steady);
    assert!(!both.younger.tunnel.is_connected(now, &key));
    both.younger_greets();
    assert!(both.younger.tunnel.is_connected(now, &key));
    both.b_sends(101);
    assert_eq!(both.younger.delivered.len(), 1, "the peer uses the younger session");
    both.older_sends(101);
    let sent = both.younger.send(both.world.now, &packet("10.0.0.1", "10.0.0.2", 102));
    both.carry(sent);
    let arrived: Vec<usize> = both.world.b.delivered.iter().map(Vec::len).collect();
    assert_eq!(arrived, [100, 101, 102], "the older session still carries what comes late");
}

#[test]
fn what_was_under_way_on_the_old_session_still_arrives() {
    let mut both = Handover::begin(World::connected());
    let late = both.world.b.send(both.world.now, &packet("10.0.0.2", "10.0.0.1", 77));
    both.younger_greets();
    both.arrives(&late[0]);
    assert_eq!(both.world.a.delivered.len(), 1);
    assert_eq!(both.world.a.tunnel.last_received(), Some(both.world.now.steady));
}

#[test]
fn a_handshake_that_the_peer_begins_is_answered_by_the_younger_engine() {
    let mut both = Handover::begin(World::new());
    both.b_sends(64);
    assert_eq!((both.world.a.delivered.len(), both.younger.delivered.len()), (0, 1));
}

#[test]
fn packets_that_waited_for_a_handshake_and_later_ones_are_sent_by_the_younger_engine() {
    let mut world = World::new();
    let unanswered = world.a.send(world.now, &packet("10.0.0.1", "10.0.0.2", 64));
    let mut both = Handover::begin(world);
    let staged = both.world.a.tunnel.take_successor_traffic();
    assert_eq!(staged.len(), 1);
    assert!(both.world.a.send(both.world.now, &packet("10.0.0.1", "10.0.0.2", 65)).is_empty(), "no new handshake");
    let late = both.world.a.tunnel.take_successor_traffic();
    for item in staged.into_iter().chain(late) {
        let SuccessorTraffic::Packet(packet) = item else { panic!("a packet is left aside") };
        let sent = both.younger.send(both.world.now, &packet);
        both.carry(sent);
    }
    let arrived: Vec<usize> = both.world.b.delivered.iter().map(Vec::len).collect();
    assert_eq!(arrived, [64, 65]);
    both.carry(unanswered);
    assert_eq!(both.world.a.tunnel.context.staged, 0);
}

#[test]
fn a_captured_initiation_is_of_no_more_use_to_the_younger_engine() {
    let mut world = World::new();
    let captured = world.b.send(world.now, &packet("10.0.0.2", "10.0.0.1", 64)).remove(0);
    world.carry(Vec::new(), vec![captured.clone()]);
    let mut both = Handover::begin(world);
    assert!(both.arrives(&captured).is_empty());
    assert_eq!(both.younger.dropped("replay"), 1);
}

#[test]
fn a_tunnel_that_comes_back_meets_its_peers_again() {
    let mut both = Handover::begin(World::connected());
    both.younger_greets();
    both.b_sends(80);
    let mut world = both.world;
    world.a.tunnel.cancel_handover(world.now.steady);
    world.live(Duration::from_millis(100));
    world.b_sends(81);
    world.a_sends(82);
    assert_eq!(world.a.delivered.last().map(Vec::len), Some(81));
    assert_eq!(world.b.delivered.last().map(Vec::len), Some(82));
}
