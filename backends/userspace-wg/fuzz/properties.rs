//! What must hold for any input; the fuzzer searches for one that breaks it, and the tests replay the corpus.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use overlayd_core::keys::PrivateKey;
use overlayd_userspace_wg::{
    datagram::{DatagramClass, classify},
    noise::{CurrentTime, DropReason, EndpointUpdate, HandshakeLimits, PacketBatch, PeerConfig, SteadyTime, Tunnel},
    offload::{FrameOffload, FrameSplit, MergePolicy, SLACK, VNET_HEADER, coalesce},
    uapi::SetRequest,
};

/// Any text is a request or it is not, and says so without panicking. A refusal names the line, and no line that is
/// understood hides one that is not.
pub(crate) fn uapi(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines = text.lines().count();
    match SetRequest::parse(text) {
        Err(refused) => assert!((1..=lines).contains(&refused.line), "line {} of {lines}", refused.line),
        Ok(request) => {
            let edits: usize = request.peers.iter().map(|peer| 1 + peer.edits.len()).sum();
            assert!(request.device.len() + edits <= lines, "more was understood than was said");
            let refused = SetRequest::parse(&format!("{}\nx=y\n", text.trim_end_matches(['\n', '\r'])));
            assert!(refused.is_err(), "nonsense after it was taken");
        }
    }
}

/// Of all that reaches a device, only what its peer sent comes out of it, one packet a datagram at most, and the replies
/// fit. The input is a list of steps: what to do, a length, and so many bytes.
pub(crate) fn datagrams(mut data: &[u8]) {
    let mut pair = Pair::new();
    while let [what, len, rest @ ..] = data {
        let (bytes, next) = rest.split_at(rest.len().min(usize::from(*len)));
        match what % 3 {
            0 => pair.receive(bytes),
            1 => pair.meddle(bytes),
            _ => pair.wait(Duration::from_secs(u64::from(*len))),
        }
        data = next;
    }
}

/// A frame of any bytes is refused or cut into packets that it has room for; and packets
/// arrive, what is put together is cut into the same again. The input is a header, how it is used, and bytes.
pub(crate) fn frames(data: &[u8]) {
    let Some((header, rest)) = data.split_first_chunk::<VNET_HEADER>() else { return };
    let packets = cut(header, rest).unwrap_or_else(|| pieces(rest));
    let mut batch = PacketBatch::with_room(packets.len().max(1), packets.len() * 2000 + 2 * PacketBatch::SLOT);
    for packet in packets.iter().filter(|packet| !packet.is_empty()) {
        if batch.room() > 0 {
            batch.next_slot()[..packet.len()].copy_from_slice(packet);
            batch.push(packet.len(), None);
        }
    }
    let before = taken(&batch);
    let mut after = Vec::new();
    coalesce(&mut batch, MergePolicy::TcpAndUdp, |frame| {
        let bytes: Vec<u8> = frame.parts.iter().flat_map(|part| part.iter().copied()).collect();
        let (header, frame_bytes) = bytes.split_first_chunk().expect("a header");
        let cut = cut(header, frame_bytes).expect("what we write makes sense");
        assert_eq!(cut.len(), frame.packets);
        after.extend(cut);
    });
    assert_eq!(after.len(), before.len());
    for (after, before) in after.into_iter().zip(before) {
        assert_eq!(without_id(after), without_id(before), "a packet was changed");
    }
}

/// The packets of a frame; the test writes over what lies behind each.
fn cut(header: &[u8; VNET_HEADER], frame: &[u8]) -> Option<Vec<Vec<u8>>> {
    let cut = FrameSplit::of(&FrameOffload::parse(header)?, frame)?;
    let mut slot = frame.to_vec();
    slot.extend([0; SLACK]);
    let mut packets = Vec::new();
    cut.each(&mut slot, |slot, len| {
        packets.push(slot[..len].to_vec());
        slot[len..].fill(0xff);
    });
    let (len, last) = cut.lengths();
    assert_eq!((packets.len(), packets.last().map(Vec::len)), (cut.count(), Some(last)));
    assert!(packets.iter().rev().skip(1).all(|packet| packet.len() == len));
    Some(packets)
}

/// Bytes as packets, each after its length.
fn pieces(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    while let [len, rest @ ..] = bytes {
        let (piece, next) = rest.split_at(rest.len().min(usize::from(*len)));
        pieces.push(piece.to_vec());
        bytes = next;
    }
    pieces
}

/// A packet that must not be fragmented needs no identification, so it may change (RFC 6864).
fn without_id(mut packet: Vec<u8>) -> Vec<u8> {
    if packet.len() >= 20 && packet[0] == 0x45 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// What the peer sends: the smallest IPv4 packet from 10.0.0.2 to 10.0.0.1.
const PACKET: [u8; 20] = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
const MTU: u16 = 1420;

/// A device and its one peer, with a network in between that may change what it carries.
struct Pair {
    device: Tunnel,
    peer: Tunnel,
    now: CurrentTime,
}

impl Pair {
    fn new() -> Self {
        let [device, peer] = [1, 2].map(|seed| PrivateKey::from_bytes([seed; 32]));
        let now = CurrentTime {
            steady: SteadyTime::from_nanos(1 << 40),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30),
        };
        let make = |own: &PrivateKey, other: &PrivateKey, range: &str| {
            let mut tunnel = Tunnel::new(*own.as_bytes(), MTU, HandshakeLimits::default());
            let allowed_ips = vec![range.parse().expect("a range")];
            let endpoint = EndpointUpdate::Set(address());
            let peer = PeerConfig { key: other.public_key(), psk: None, endpoint, keepalive: None, allowed_ips };
            tunnel.set_peer(now.steady, &peer);
            tunnel
        };
        Self { device: make(&device, &peer, "10.0.0.2/32"), peer: make(&peer, &device, "10.0.0.1/32"), now }
    }

    /// The device gets these bytes; the peer gets the replies.
    fn receive(&mut self, datagram: &[u8]) {
        let replies = checked(&mut self.device, self.now, datagram);
        for reply in replies {
            for answer in checked(&mut self.peer, self.now, &reply) {
                checked(&mut self.device, self.now, &answer);
            }
        }
    }

    /// The peer sends a packet, and the network changes the bits that are set in `bytes`.
    fn meddle(&mut self, bytes: &[u8]) {
        let mut slot = [0; PACKET.len() + 16];
        slot[..PACKET.len()].copy_from_slice(&PACKET);
        let mut out = PacketBatch::with_slots(2);
        self.peer.packet(self.now, &mut slot, PACKET.len(), &mut out);
        for mut datagram in taken(&out) {
            datagram.iter_mut().zip(bytes).for_each(|(byte, bits)| *byte ^= bits);
            self.receive(&datagram);
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now = CurrentTime { steady: self.now.steady.after(time), wall: self.now.wall + time };
        let mut out = PacketBatch::with_slots(Tunnel::STEP + 8);
        self.device.wake(self.now, &mut out);
        out.clear();
        self.peer.wake(self.now, &mut out);
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 51820))
}

/// Hands a datagram to an engine and returns its replies.
fn checked(tunnel: &mut Tunnel, now: CurrentTime, datagram: &[u8]) -> Vec<Vec<u8>> {
    let (mut packets, mut replies) = (PacketBatch::with_padding(1), PacketBatch::with_slots(Tunnel::STEP));
    match classify(datagram) {
        DatagramClass::WireGuard(message) => {
            assert!(matches!(datagram, [1..=4, 0, 0, 0, ..]), "what has no type of WireGuard's was taken for it");
            assert_eq!(message.bytes(), datagram);
            tunnel.message(now, address(), message, &mut packets, &mut replies);
        }
        DatagramClass::Other => tunnel.count_drops(DropReason::NotWireGuard, 1),
    }
    for packet in taken(&packets) {
        assert_eq!(packet, PACKET, "something came out that was not sent");
    }
    taken(&replies)
}

fn taken(batch: &PacketBatch) -> Vec<Vec<u8>> {
    batch.iter().map(|(bytes, _)| bytes.to_vec()).collect()
}
