//! Packets made byte by byte, and judged by arithmetic of their own.

use proptest::prelude::*;

use crate::{
    noise::PacketBatch,
    offload::{
        FrameOffload, FrameSplit, MergePolicy, MergedFrame, PartialChecksum, SLACK, SegmentKind, VNET_HEADER, coalesce,
    },
};

/// What a packet or a frame says.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) v6: Option<()>,
    pub(super) udp: Option<()>,
    pub(super) id: u16,
    pub(super) port: u16,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) options: Vec<u8>,
    pub(super) hops: u8,
    pub(super) payload: Vec<u8>,
}

pub(super) const ACK: u8 = 0x10;
pub(super) const PSH: u8 = 0x08;
pub(super) const FIN: u8 = 0x01;
pub(super) const CWR: u8 = 0x80;

impl Packet {
    pub(super) fn tcp4(payload: &[u8]) -> Self {
        Self {
            v6: None,
            udp: None,
            id: 0xfffe,
            port: 5201,
            sequence: 0xffff_ff00,
            acknowledged: 77,
            flags: ACK,
            window: 512,
            options: vec![1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4],
            hops: 64,
            payload: payload.to_vec(),
        }
    }

    pub(super) fn udp4(payload: &[u8]) -> Self {
        Self { udp: Some(()), ..Self::tcp4(payload) }
    }

    pub(super) fn transport_at(&self) -> usize {
        if self.v6.is_some() { 40 } else { 20 }
    }

    pub(super) fn headers(&self) -> usize {
        self.transport_at() + if self.udp.is_some() { 8 } else { 20 + self.options.len() }
    }

    /// The whole packet with its checksums.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut packet = self.without_checksum();
        let at = self.transport_at();
        let sum = ones_sum(&pseudo(&packet)) + ones_sum(&packet[at..]);
        let mut checksum = !fold(sum);
        if self.udp.is_some() && checksum == 0 {
            checksum = 0xffff;
        }
        self.put_checksum(&mut packet, checksum);
        packet
    }

    /// The frame as the kernel gives it: the sum of the pseudo header in the place of the checksum.
    pub(super) fn frame(&self, size: u16) -> ([u8; VNET_HEADER], Vec<u8>) {
        let mut packet = self.without_checksum();
        let sum = fold(ones_sum(&pseudo(&packet)));
        self.put_checksum(&mut packet, sum);
        let segments = match (self.udp, self.v6) {
            (Some(()), _) => SegmentKind::Udp(size),
            (None, None) => SegmentKind::Tcp4(size),
            (None, Some(())) => SegmentKind::Tcp6(size),
        };
        let offset = if self.udp.is_some() { 6 } else { 16 };
        let checksum = PartialChecksum { start: self.transport_at() as u16, offset };
        let header = FrameOffload { checksum: Some(checksum), segments: Some(segments) };
        (header.write(self.headers() as u16), packet)
    }

    fn put_checksum(&self, packet: &mut [u8], checksum: u16) {
        let place = self.transport_at() + if self.udp.is_some() { 6 } else { 16 };
        packet[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    fn without_checksum(&self) -> Vec<u8> {
        let above = self.headers() - self.transport_at() + self.payload.len();
        let protocol = if self.udp.is_some() { 17 } else { 6 };
        let mut packet = match self.v6 {
            None => {
                let len = (20 + above) as u16;
                let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, self.hops, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
                ip[2..4].copy_from_slice(&len.to_be_bytes());
                ip[4..6].copy_from_slice(&self.id.to_be_bytes());
                let checksum = !fold(ones_sum(&ip));
                ip[10..12].copy_from_slice(&checksum.to_be_bytes());
                ip
            }
            Some(()) => {
                let mut ip = vec![0x60, 0, 0, 0, 0, 0, protocol, self.hops];
                ip[4..6].copy_from_slice(&(above as u16).to_be_bytes());
                ip.extend((1..=32).map(|byte| byte * 7));
                ip
            }
        };
        packet.extend(self.port.to_be_bytes());
        packet.extend([0x30, 0x39]);
        if self.udp.is_some() {
            packet.extend((above as u16).to_be_bytes());
            packet.extend([0, 0]);
        } else {
            packet.extend(self.sequence.to_be_bytes());
            packet.extend(self.acknowledged.to_be_bytes());
            packet.extend([(((20 + self.options.len()) / 4) << 4) as u8, self.flags]);
            packet.extend(self.window.to_be_bytes());
            packet.extend([0; 4]);
            packet.extend(&self.options);
        }
        packet.extend(&self.payload);
        packet
    }
}

/// Any stream of either family and protocol.
pub(super) fn any_packet() -> impl Strategy<Value = Packet> {
    let payload = proptest::collection::vec(any::<u8>(), 1..9000);
    let what = (any::<Option<()>>(), any::<Option<()>>(), any::<u16>(), any::<u32>(), 0usize..=10);
    (payload, what, prop_oneof![Just(ACK), Just(ACK | PSH)]).prop_map(
        |(payload, (v6, udp, id, sequence, options), flags)| Packet {
            v6,
            udp,
            id,
            sequence,
            flags,
            options: vec![1; options * 4],
            ..Packet::tcp4(&payload)
        },
    )
}

/// Adds 16-bit words one by one (RFC 1071).
fn ones_sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0))).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The pseudo header of a packet, spelled out.
fn pseudo(packet: &[u8]) -> Vec<u8> {
    let (addresses, protocol, at) = if packet[0] >> 4 == 4 { (12..20, packet[9], 20) } else { (8..40, packet[6], 40) };
    let mut pseudo = packet[addresses].to_vec();
    pseudo.extend(((packet.len() - at) as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    pseudo
}

/// Every length in a packet is right, and every checksum.
#[track_caller]
pub(super) fn assert_intact(packet: &[u8]) {
    let (at, len) = if packet[0] >> 4 == 4 {
        assert_eq!(fold(ones_sum(&packet[..20])), 0xffff, "the IPv4 checksum");
        (20, usize::from(u16::from_be_bytes([packet[2], packet[3]])))
    } else {
        (40, 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])))
    };
    assert_eq!(len, packet.len(), "the length in the IP header");
    assert_eq!(fold(ones_sum(&pseudo(packet)) + ones_sum(&packet[at..])), 0xffff, "the checksum of TCP or UDP");
    if pseudo(packet).ends_with(&[17]) {
        assert_eq!(usize::from(u16::from_be_bytes([packet[at + 4], packet[at + 5]])), packet.len() - at);
        assert_ne!(packet[at + 6..at + 8], [0, 0], "no UDP checksum means none");
    }
}

/// The packets that a frame is cut into, each padded with other bytes by the test.
pub(super) fn cut(header: &[u8; VNET_HEADER], frame: &[u8]) -> Option<Vec<Vec<u8>>> {
    let offload = FrameOffload::parse(header)?;
    let mut slot = frame.to_vec();
    slot.extend([0xee; SLACK]);
    let cut = FrameSplit::of(&offload, frame)?;
    let mut packets = Vec::new();
    cut.each(&mut slot, |slot, len| {
        packets.push(slot[..len].to_vec());
        slot[len..].fill(0xbb);
    });
    let (len, last) = cut.lengths();
    assert_eq!(packets.len(), cut.count());
    assert!(packets[..packets.len() - 1].iter().all(|packet| packet.len() == len));
    assert_eq!(packets.last().map(Vec::len), Some(last));
    Some(packets)
}

/// What is written to the interface for these packets: header and bytes of each frame, and how many packets it holds.
pub(super) fn gathered(packets: &[Vec<u8>], merging: MergePolicy) -> Vec<([u8; VNET_HEADER], Vec<u8>, usize)> {
    let mut batch = PacketBatch::with_room(packets.len().max(1), PacketBatch::SLOT * 4);
    for packet in packets {
        batch.next_slot()[..packet.len()].copy_from_slice(packet);
        batch.push(packet.len(), None);
    }
    let mut frames = Vec::new();
    coalesce(&mut batch, merging, |MergedFrame { parts, packets }| {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        frames.push((bytes[..VNET_HEADER].try_into().unwrap(), bytes[VNET_HEADER..].to_vec(), *packets));
    });
    frames
}
