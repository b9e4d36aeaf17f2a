//! What a packet costs in memory, counted by an allocator that counts.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    reason = "an allocator is unsafe by its nature; a test that cannot go on fails"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use overlayd_core::keys::{PrivateKey, PublicKey};
use overlayd_userspace_wg::{
    datagram::{DatagramClass, classify},
    noise::{CurrentTime, EndpointUpdate, HandshakeLimits, PacketBatch, PeerConfig, Tunnel},
};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Node {
    tunnel: Tunnel,
    key: PublicKey,
    address: SocketAddr,
}

impl Node {
    fn new(last: u8) -> Self {
        let private = PrivateKey::generate();
        let tunnel = Tunnel::new(*private.as_bytes(), 1420, HandshakeLimits::default());
        Self { tunnel, key: private.public_key(), address: SocketAddr::from(([192, 0, 2, last], 51820)) }
    }

    fn know(&mut self, other: &Node, range: &str) {
        self.know_peer(other.key, other.address, range);
    }

    /// So many peers more, who never speak.
    fn know_silent(&mut self, peers: u32) {
        for number in 0..peers {
            let [_, high, middle, low] = number.to_be_bytes();
            let mut key = [7; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            let address = SocketAddr::from(([127, high, middle, low], 51820));
            self.know_peer(PublicKey::from_bytes(key), address, &format!("10.{}.{middle}.{low}/32", 100 + high));
        }
    }

    fn know_peer(&mut self, key: PublicKey, address: SocketAddr, range: &str) {
        let (endpoint, allowed_ips) = (EndpointUpdate::Set(address), vec![range.parse().unwrap()]);
        let peer = PeerConfig { key, psk: None, endpoint, keepalive: None, allowed_ips };
        self.tunnel.set_peer(CurrentTime::read().steady, &peer);
    }
}

struct TunnelBuffers {
    packets: PacketBatch,
    datagrams: PacketBatch,
    replies: PacketBatch,
    delivered: PacketBatch,
}

/// One packet from `a` to `b` and everything that follows from it.
fn carry(a: &mut Node, b: &mut Node, buffers: &mut TunnelBuffers) {
    let slot = buffers.packets.next_slot();
    slot[..1400].fill(0);
    slot[..4].copy_from_slice(&[0x45, 0, 5, 120]);
    slot[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    buffers.packets.push(1400, None);
    let now = CurrentTime::read();
    let (slot, len) = buffers.packets.padded_mut(0);
    a.tunnel.packet(now, slot, len, &mut buffers.datagrams);
    buffers.packets.clear();
    while !buffers.datagrams.is_empty() {
        deliver(now, b, a.address, &mut buffers.datagrams, &mut buffers.delivered, &mut buffers.replies);
        deliver(now, a, b.address, &mut buffers.replies, &mut buffers.delivered, &mut buffers.datagrams);
    }
}

fn deliver(
    now: CurrentTime,
    to: &mut Node,
    from: SocketAddr,
    datagrams: &mut PacketBatch,
    packets: &mut PacketBatch,
    out: &mut PacketBatch,
) {
    for (datagram, _) in datagrams.iter() {
        let DatagramClass::WireGuard(message) = classify(datagram) else { panic!("a tunnel sends WireGuard messages") };
        to.tunnel.message(now, from, message, packets, out);
    }
    datagrams.clear();
}

/// One test alone: the allocator counts for the whole process.
#[test]
fn a_packet_through_two_devices_costs_no_allocation() {
    for peers in [10, 10_000] {
        assert_eq!(allocations_of_a_hundred_packets_among(peers), 0, "among {peers} peers");
    }
}

fn allocations_of_a_hundred_packets_among(peers: u32) -> usize {
    let (mut a, mut b) = (Node::new(1), Node::new(2));
    a.know(&b, "10.0.0.2/32");
    b.know(&a, "10.0.0.1/32");
    a.know_silent(peers);
    b.know_silent(peers);
    let batch = || PacketBatch::with_slots(Tunnel::STEP);
    let mut buffers = TunnelBuffers {
        packets: PacketBatch::with_padding(1),
        datagrams: batch(),
        replies: batch(),
        delivered: batch(),
    };
    carry(&mut a, &mut b, &mut buffers);
    assert_eq!(buffers.delivered.len(), 1, "the handshake is done and the packet has arrived");
    carry(&mut a, &mut b, &mut buffers);
    buffers.delivered.clear();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..100 {
        carry(&mut a, &mut b, &mut buffers);
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(buffers.delivered.len(), 100);
    allocations
}
