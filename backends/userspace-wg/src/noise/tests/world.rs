use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use overlayd_core::keys::{PresharedKey, PrivateKey, PublicKey};

use crate::datagram::{DatagramClass, classify};
use crate::noise::{
    CurrentTime, DropReason, EndpointUpdate, HandshakeLimits, PacketBatch, PeerConfig, SteadyTime, Tunnel,
};

pub(super) const MTU: u16 = 1420;

/// One tunnel with its address on the underlay.
pub(super) struct Node {
    pub(super) tunnel: Tunnel,
    pub(super) key: PublicKey,
    pub(super) address: SocketAddr,
    /// Packets that came out on the inside.
    pub(super) delivered: Vec<Vec<u8>>,
    packets: PacketBatch,
    datagrams: PacketBatch,
}

/// Two tunnels, a clock and the datagrams between them.
pub(super) struct World {
    pub(super) a: Node,
    pub(super) b: Node,
    pub(super) now: CurrentTime,
    /// Datagrams that crossed the underlay since this was last emptied: who sent them, and their bytes.
    pub(super) wire: Vec<(SocketAddr, Vec<u8>)>,
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A UDP packet of IPv4 between the addresses, `len` bytes in all.
pub(super) fn packet(from: &str, to: &str, len: usize) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (ip(from), ip(to)) else { panic!("IPv4 addresses") };
    let mut packet = vec![0x5a; len.max(20)];
    packet[0] = 0x45;
    let len = u16::try_from(packet.len()).unwrap();
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    packet
}

pub(super) fn config(key: PublicKey, endpoint: Option<SocketAddr>, ranges: &[&str]) -> PeerConfig {
    PeerConfig {
        key,
        psk: None,
        endpoint: endpoint.map_or(EndpointUpdate::Keep, EndpointUpdate::Set),
        keepalive: None,
        allowed_ips: ranges.iter().map(|range| range.parse().unwrap()).collect(),
    }
}

pub(super) fn psk(seed: u8) -> Option<PresharedKey> {
    Some(PresharedKey::from_bytes([seed; 32]))
}

impl Node {
    pub(super) fn new(address: &str, limits: HandshakeLimits) -> Self {
        let private = PrivateKey::generate();
        let tunnel = Tunnel::new(*private.as_bytes(), MTU, limits);
        Self {
            tunnel,
            key: private.public_key(),
            address: address.parse().unwrap(),
            delivered: Vec::new(),
            packets: PacketBatch::with_padding(2),
            datagrams: PacketBatch::with_slots(Tunnel::STEP + 8),
        }
    }

    /// Hands a packet in from the inside; returns the datagrams it led to.
    pub(super) fn send(&mut self, now: CurrentTime, packet: &[u8]) -> Vec<Vec<u8>> {
        self.packets.next_slot()[..packet.len()].copy_from_slice(packet);
        self.packets.push(packet.len(), None);
        let (slot, len) = self.packets.padded_mut(0);
        slot[len..].fill(0xee);
        self.tunnel.packet(now, slot, len, &mut self.datagrams);
        self.packets.clear();
        take(&mut self.datagrams)
    }

    /// Hands a datagram in from the outside; returns the datagrams it led to.
    pub(super) fn receive(&mut self, now: CurrentTime, from: SocketAddr, datagram: &[u8]) -> Vec<Vec<u8>> {
        match classify(datagram) {
            DatagramClass::WireGuard(message) => {
                self.tunnel.message(now, from, message, &mut self.packets, &mut self.datagrams);
            }
            DatagramClass::Other => self.tunnel.count_drops(DropReason::NotWireGuard, 1),
        }
        self.delivered.extend(take(&mut self.packets));
        take(&mut self.datagrams)
    }

    pub(super) fn wake(&mut self, now: CurrentTime) -> Vec<Vec<u8>> {
        self.tunnel.wake(now, &mut self.datagrams);
        take(&mut self.datagrams)
    }

    pub(super) fn dropped(&self, reason: &str) -> u64 {
        self.tunnel.snapshot().dropped.get(reason).copied().unwrap_or(0)
    }

    pub(super) fn endpoint(&self) -> Option<SocketAddr> {
        self.tunnel.snapshot().peers[0].endpoint
    }
}

fn take(batch: &mut PacketBatch) -> Vec<Vec<u8>> {
    let taken = batch.iter().map(|(bytes, _)| bytes.to_vec()).collect();
    batch.clear();
    taken
}

impl World {
    /// 10.0.0.1 and 10.0.0.2 know each other.
    pub(super) fn new() -> Self {
        Self::with_limits(HandshakeLimits::default())
    }

    pub(super) fn with_limits(limits: HandshakeLimits) -> Self {
        let mut a = Node::new("192.0.2.1:1000", limits);
        let mut b = Node::new("192.0.2.2:2000", limits);
        let now = CurrentTime { steady: SteadyTime::from_nanos(1_000_000_000_000), wall: SystemTime::now() };
        a.tunnel.set_peer(now.steady, &config(b.key, Some(b.address), &["10.0.0.2/32"]));
        b.tunnel.set_peer(now.steady, &config(a.key, Some(a.address), &["10.0.0.1/32"]));
        Self { a, b, now, wire: Vec::new() }
    }

    /// With a session in place.
    pub(super) fn connected() -> Self {
        let mut world = Self::new();
        world.a_sends(64);
        assert_eq!(world.b.delivered.len(), 1);
        world.b.delivered.clear();
        world.wire.clear();
        world
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.steady = self.now.steady.after(time);
        self.now.wall += time;
    }

    /// Time goes on from deadline to deadline, and both sides do what is due.
    pub(super) fn live(&mut self, time: Duration) {
        let end = self.now.steady.after(time);
        loop {
            let next = [&self.a, &self.b].into_iter().filter_map(|node| node.tunnel.next_wake()).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.pass(next.since(self.now.steady));
            let (from_a, from_b) = (self.a.wake(self.now), self.b.wake(self.now));
            self.carry(from_a, from_b);
        }
        self.pass(end.since(self.now.steady));
    }

    pub(super) fn a_sends(&mut self, len: usize) {
        let sent = self.a.send(self.now, &packet("10.0.0.1", "10.0.0.2", len));
        self.carry(sent, Vec::new());
    }

    pub(super) fn b_sends(&mut self, len: usize) {
        let sent = self.b.send(self.now, &packet("10.0.0.2", "10.0.0.1", len));
        self.carry(Vec::new(), sent);
    }

    /// Carries datagrams to and fro until there are no more.
    pub(super) fn carry(&mut self, mut from_a: Vec<Vec<u8>>, mut from_b: Vec<Vec<u8>>) {
        while !from_a.is_empty() || !from_b.is_empty() {
            let (mut next_a, mut next_b) = (Vec::new(), Vec::new());
            for datagram in from_a {
                next_b.extend(self.b.receive(self.now, self.a.address, &datagram));
                self.wire.push((self.a.address, datagram));
            }
            for datagram in from_b {
                next_a.extend(self.a.receive(self.now, self.b.address, &datagram));
                self.wire.push((self.b.address, datagram));
            }
            (from_a, from_b) = (next_a, next_b);
        }
    }

    /// How many messages of this type crossed the wire: 1 initiation, 2 response, 3 cookie reply, 4 data.
    pub(super) fn crossed(&self, kind: u8) -> usize {
        self.wire.iter().filter(|(_, datagram)| datagram[0] == kind).count()
    }
}
