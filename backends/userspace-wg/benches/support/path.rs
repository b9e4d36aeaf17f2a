//! Two devices without sockets, and a frame that goes from one to the other.

use std::{net::SocketAddr, time::SystemTime};

use overlayd_core::keys::{PrivateKey, PublicKey};
use overlayd_userspace_wg::{
    datagram::{DatagramClass, WireGuardMessage, classify},
    noise::{CurrentTime, EndpointUpdate, HandshakeLimits, PacketBatch, PeerConfig, SendBurst, SteadyTime, Tunnel},
    offload::{FrameOffload, FrameSplit, MergePolicy, PartialChecksum, SegmentKind, coalesce},
};

const MTU: usize = 1420;
const HEADERS: usize = 52;
const SIZE: usize = MTU - HEADERS;
const SEGMENTS: usize = 44;
const SMALL: usize = 80;
/// Length of the frame in bytes.
pub(crate) const FRAME: usize = HEADERS + SEGMENTS * SIZE;

/// Always the same moment: no key becomes too old, and nothing asks for the time, which cannot be had under valgrind.
const NOW: CurrentTime = CurrentTime { steady: SteadyTime::from_nanos(1_000_000_000), wall: SystemTime::UNIX_EPOCH };

/// One way through two devices.
pub(crate) struct Path {
    a: Tunnel,
    b: Tunnel,
    frame: Vec<u8>,
    small: Vec<u8>,
    cut: FrameSplit,
    frames: PacketBatch,
    datagrams: PacketBatch,
    packets: PacketBatch,
    replies: PacketBatch,
}

impl Path {
    /// With a session in place, between devices that have so many other peers each, who never speak.
    pub(crate) fn among(others: u32) -> Self {
        let [left, right] = [PrivateKey::generate(), PrivateKey::generate()];
        let (mut a, mut b) = (tunnel(&left, right.public_key(), 2), tunnel(&right, left.public_key(), 1));
        for other in 0..others {
            for tunnel in [&mut a, &mut b] {
                tunnel.set_peer(NOW.steady, &silent(other));
            }
        }
        let frame = frame();
        let checksum = Some(PartialChecksum { start: 20, offset: 16 });
        let offload = FrameOffload { checksum, segments: Some(SegmentKind::Tcp4(SIZE as u16)) };
        let cut = FrameSplit::of(&offload, &frame).expect("a frame");
        let batch = || PacketBatch::with_room(4 * SEGMENTS, 4 * PacketBatch::SLOT);
        let replies = PacketBatch::with_slots(2 * Tunnel::STEP);
        let frames = PacketBatch::with_padding(1);
        let mut small = frame[..SMALL + 16].to_vec();
        small[2..4].copy_from_slice(&(SMALL as u16).to_be_bytes());
        let mut path = Self { a, b, frame, small, cut, frames, datagrams: batch(), packets: batch(), replies };
        path.shake_hands();
        path
    }

    fn shake_hands(&mut self) {
        self.a.packet(NOW, &mut self.small.clone(), SMALL, &mut self.replies);
        for step in 0..4 {
            let sent: Vec<Vec<u8>> = self.replies.iter().map(|(datagram, _)| datagram.to_vec()).collect();
            self.replies.clear();
            let (to, from) = if step % 2 == 0 { (&mut self.b, address(1)) } else { (&mut self.a, address(2)) };
            for datagram in sent {
                to.message(NOW, from, message(&datagram), &mut self.packets, &mut self.replies);
            }
        }
        assert_eq!(self.packets.len(), 1, "the packet that asked for the handshake has arrived");
    }

    /// Takes one small packet by itself, as most conversations have them, through both devices.
    pub(crate) fn packet(&mut self) -> usize {
        self.frames.clear();
        self.frames.next_slot()[..SMALL].copy_from_slice(&self.small[..SMALL]);
        self.frames.push(SMALL, None);
        self.datagrams.clear();
        self.packets.clear();
        let (slot, len) = self.frames.padded_mut(0);
        self.a.packet(NOW, slot, len, &mut self.datagrams);
        for (datagram, _) in self.datagrams.iter() {
            self.b.message(NOW, address(1), message(datagram), &mut self.packets, &mut self.replies);
        }
        assert_eq!(self.packets.len(), 1);
        self.packets.len()
    }

    /// Asks both devices for what is due, which is nothing.
    pub(crate) fn wake(&mut self) -> usize {
        for tunnel in [&mut self.a, &mut self.b] {
            tunnel.wake(NOW, &mut self.replies);
        }
        assert!(self.replies.is_empty());
        self.replies.len()
    }

    /// The frame as the interface gives it.
    fn read(&mut self) {
        self.frames.clear();
        self.frames.next_slot()[..FRAME].copy_from_slice(&self.frame);
        self.frames.push(FRAME, None);
    }

    /// Cuts the frame.
    pub(crate) fn cut(&mut self) -> usize {
        self.read();
        let mut bytes = 0;
        self.cut.each(self.frames.padded_mut(0).0, |_, len| bytes += len);
        bytes
    }

    /// Cuts the frame and encrypts its packets.
    pub(crate) fn seal(&mut self) -> usize {
        self.read();
        self.datagrams.clear();
        let (len, last) = self.cut.lengths();
        let burst = SendBurst { packets: self.cut.count(), len, last };
        let send_session = self.a.send_session(NOW, &self.frame, burst).expect("a route").expect("a session");
        let out = &mut self.datagrams;
        self.cut
            .each(self.frames.padded_mut(0).0, |slot, len| send_session.seal(slot, len, out).expect("a live session"));
        self.datagrams.len()
    }

    /// Decrypts what was encrypted last, once.
    pub(crate) fn open(&mut self) -> usize {
        self.packets.clear();
        let (first, _) = self.datagrams.get(0);
        let mut run = self.b.begin_run(NOW, address(1), message(first), &self.packets).expect("a session");
        for (datagram, _) in self.datagrams.iter() {
            run.open(datagram, &mut self.packets);
        }
        self.b.end_run(NOW, run, &mut self.packets, &mut self.replies);
        assert_eq!(self.packets.len(), SEGMENTS);
        self.packets.len()
    }

    /// Puts together what was decrypted last.
    pub(crate) fn coalesce(&mut self) -> usize {
        let mut frames = 0;
        coalesce(&mut self.packets, MergePolicy::TcpAndUdp, |frame| frames += frame.packets);
        frames
    }
}

fn message(datagram: &[u8]) -> WireGuardMessage<'_> {
    match classify(datagram) {
        DatagramClass::WireGuard(message) => message,
        DatagramClass::Other => panic!("a tunnel sends WireGuard messages"),
    }
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 51820))
}

fn tunnel(own: &PrivateKey, other: PublicKey, last: u8) -> Tunnel {
    let mut tunnel = Tunnel::new(*own.as_bytes(), MTU as u16, HandshakeLimits::default());
    let peer = PeerConfig {
        key: other,
        psk: None,
        endpoint: EndpointUpdate::Set(address(last)),
        keepalive: None,
        allowed_ips: vec![format!("10.0.0.{last}/32").parse().expect("a range")],
    };
    tunnel.set_peer(NOW.steady, &peer);
    tunnel
}

fn silent(number: u32) -> PeerConfig {
    let [_, high, middle, low] = number.to_be_bytes();
    let mut key = [7; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    PeerConfig {
        key: PublicKey::from_bytes(key),
        psk: None,
        endpoint: EndpointUpdate::Set(SocketAddr::from(([127, high, middle, low], 51820))),
        keepalive: None,
        allowed_ips: vec![format!("10.{}.{middle}.{low}/32", 100 + high).parse().expect("a range")],
    }
}

/// A frame of TCP from 10.0.0.1 to 10.0.0.2 whose checksum is left to the device.
fn frame() -> Vec<u8> {
    let mut frame = vec![0; FRAME];
    frame[..20].copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame[2..4].copy_from_slice(&(FRAME as u16).to_be_bytes());
    frame[32] = 0x80;
    frame[33] = 0x10;
    // The sum of the pseudo header: addresses, protocol and length.
    let sum = 0x0a00 + 1 + 0x0a00 + 2 + 6 + (FRAME as u32 - 20);
    let folded = (sum & 0xffff) + (sum >> 16);
    frame[36..38].copy_from_slice(&(folded as u16).to_be_bytes());
    frame
}
