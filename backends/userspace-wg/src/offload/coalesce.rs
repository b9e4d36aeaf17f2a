use std::io::IoSlice;

use super::{
    FrameOffload, InternetChecksum, PartialChecksum, SegmentKind,
    transport::{IPV6_HEADER, IpVersion, PacketLayout, TCP, TransportProtocol, UDP, long, word},
};
use crate::noise::PacketBatch;

/// Packets in one frame, at most.
const MOST: usize = 64;
/// Bytes in one frame, at most: what the length in an IPv4 header can say.
const LARGEST: usize = 65_535;

const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// What may be put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MergePolicy {
    /// Segments of one TCP stream that follow each other.
    Tcp,
    /// Datagrams of one UDP flow too.
    TcpAndUdp,
}

/// A frame as it is written to the interface: its header, a packet, and the payloads of those that follow it.
pub struct MergedFrame<'a> {
    /// All bytes in order.
    pub parts: &'a [IoSlice<'a>],
    /// Packets in it.
    pub packets: usize,
}

/// Gives `deliver` all packets of the batch in order, neighbours of one flow as one frame. Order is kept, and every
/// payload stays as it is; packets are put together only where cutting the frame gives them back, and where their
/// checksums fit, so that a packet that was broken before stays recognisable as such.
pub fn coalesce(packets: &mut PacketBatch, merging: MergePolicy, mut deliver: impl FnMut(&MergedFrame<'_>)) {
    let mut place = 0;
    while place < packets.len() {
        let run = MergeRun::starting_at(packets, place, merging);
        run.emit(packets, &mut deliver);
        place += run.count;
    }
}

/// Packets that lie next to each other and go into one frame.
struct MergeRun {
    first: usize,
    count: usize,
    kind: Option<MergeTemplate>,
}

/// What all packets of a run share.
#[derive(Clone, Copy)]
struct MergeTemplate {
    layout: PacketLayout,
    /// Payload of all packets but the last, in bytes.
    size: usize,
    /// Length of the frame so far.
    len: usize,
}

impl MergeRun {
    fn starting_at(packets: &PacketBatch, first: usize, merging: MergePolicy) -> Self {
        let (packet, _) = packets.get(first);
        let mut run = Self { first, count: 1, kind: mergeable(packet, merging) };
        while run.count < MOST && run.first + run.count < packets.len() && run.takes(packets) {
            run.count += 1;
        }
        run
    }

    /// Whether the next packet goes into the same frame; it is then counted in the length.
    fn takes(&mut self, packets: &PacketBatch) -> bool {
        let Some(kind) = &mut self.kind else { return false };
        let (first, _) = packets.get(self.first);
        let (last, _) = packets.get(self.first + self.count - 1);
        let (next, _) = packets.get(self.first + self.count);
        let transport = kind.layout.transport;
        let payload = next.len().saturating_sub(kind.layout.payload);
        // A shorter packet ends a frame, as cutting gives all but the last the same length. PSH asks to deliver now.
        let last_is_open = last.len() - kind.layout.payload == kind.size && !pushes(last, &kind.layout);
        let fits = (1..=kind.size).contains(&payload) && kind.len + payload <= LARGEST;
        let follows =
            fits && last_is_open && is_whole(next, &kind.layout) && same_flow(first, next, &kind.layout, self.count);
        let in_order = follows
            && (kind.layout.protocol == TransportProtocol::Udp
                || long(next, transport + 4)
                    == long(first, transport + 4).wrapping_add((self.count * kind.size) as u32));
        if !in_order || !is_intact(next, &kind.layout) || (self.count == 1 && !is_intact(first, &kind.layout)) {
            return false;
        }
        kind.len += payload;
        true
    }

    fn emit(&self, packets: &mut PacketBatch, deliver: &mut impl FnMut(&MergedFrame<'_>)) {
        match &self.kind {
            Some(kind) if self.count > 1 => self.emit_merged(kind, packets, deliver),
            _ => {
                let header = FrameOffload::default().write(0);
                let (packet, _) = packets.get(self.first);
                deliver(&MergedFrame { parts: &[IoSlice::new(&header), IoSlice::new(packet)], packets: 1 });
            }
        }
    }

    fn emit_merged(&self, kind: &MergeTemplate, packets: &mut PacketBatch, deliver: &mut impl FnMut(&MergedFrame<'_>)) {
        let MergeTemplate { layout, len, .. } = *kind;
        let last = packets.get(self.first + self.count - 1).0;
        let flags = if pushes(last, &layout) { PSH } else { 0 };
        // The kernel cuts the frame again where it is forwarded, and completes the checksum from the pseudo header's sum.
        let header = kind.offload().write(layout.payload as u16);
        let first = packets.get_mut(self.first);
        layout.set_len(first, len, 0);
        if layout.protocol == TransportProtocol::Tcp {
            first[layout.transport + 13] |= flags;
        }
        // VIRTIO_NET_HDR_F_NEEDS_CSUM: the field holds the sum over the pseudo header alone, not inverted.
        let pseudo = layout.pseudo(first, len).fold();
        first[layout.checksum()].copy_from_slice(&pseudo);
        let mut parts = [IoSlice::new(&[]); MOST + 1];
        parts[0] = IoSlice::new(&header);
        for (number, part) in parts[1..=self.count].iter_mut().enumerate() {
            let (packet, _) = packets.get(self.first + number);
            *part = IoSlice::new(if number == 0 { packet } else { &packet[layout.payload..] });
        }
        deliver(&MergedFrame { parts: &parts[..=self.count], packets: self.count });
    }
}

impl MergeTemplate {
    fn offload(&self) -> FrameOffload {
        let size = self.size as u16;
        let segments = match (self.layout.protocol, self.layout.version) {
            (TransportProtocol::Tcp, IpVersion::V4) => SegmentKind::Tcp4(size),
            (TransportProtocol::Tcp, IpVersion::V6) => SegmentKind::Tcp6(size),
            (TransportProtocol::Udp, _) => SegmentKind::Udp(size),
        };
        let start = self.layout.transport as u16;
        let offset = self.layout.protocol.checksum_at() as u16;
        FrameOffload { checksum: Some(PartialChecksum { start, offset }), segments: Some(segments) }
    }
}

/// What the packet can be the first of.
fn mergeable(packet: &[u8], merging: MergePolicy) -> Option<MergeTemplate> {
    let version = IpVersion::of(packet)?;
    let (protocol, transport) = match version {
        IpVersion::V4 => (packet[9], PacketLayout::v4_header(packet)?),
        IpVersion::V6 => (packet[6], IPV6_HEADER),
    };
    let protocol = match protocol {
        TCP => TransportProtocol::Tcp,
        // A kernel before 6.2 refuses UDP frames (`TUN_F_USO4`), so it is never given one.
        UDP if merging >= MergePolicy::TcpAndUdp => TransportProtocol::Udp,
        _ => return None,
    };
    let layout = PacketLayout::with_transport_at(packet, protocol, transport)?;
    let size = packet.len() - layout.payload;
    (size > 0 && is_whole(packet, &layout)).then_some(MergeTemplate { layout, size, len: packet.len() })
}

/// Whether the packet has these headers and says nothing but its payload: no options of IPv4, no fragment, no flag of
/// TCP that means more than "here is data".
fn is_whole(packet: &[u8], layout: &PacketLayout) -> bool {
    let ip = match layout.version {
        IpVersion::V4 => {
            const FRAGMENT: u16 = 0x3fff;
            packet[0] == 0x45 && usize::from(word(packet, 2)) == packet.len() && word(packet, 6) & FRAGMENT == 0
        }
        IpVersion::V6 => usize::from(word(packet, 4)) + IPV6_HEADER == packet.len(),
    };
    ip && match layout.protocol {
        // SYN, FIN, RST and URG change the state of a connection, and ECE and CWR its speed: such segments stay alone.
        TransportProtocol::Tcp => packet[layout.transport + 13] & !PSH == ACK,
        TransportProtocol::Udp => {
            usize::from(word(packet, layout.transport + 4)) == packet.len() - layout.transport
                && word(packet, layout.transport + 6) != 0
        }
    }
}

/// Whether the headers of both are equal but for what follows from the place of the `number`th packet in its frame.
fn same_flow(first: &[u8], next: &[u8], layout: &PacketLayout, number: usize) -> bool {
    let same = |range: std::ops::Range<usize>| first[range.clone()] == next[range];
    let at = layout.transport;
    let ip = match layout.version {
        IpVersion::V4 => {
            // With DF the identification means nothing (RFC 6864). Without it the cut packets count up, so these must as well.
            const DO_NOT_FRAGMENT: u8 = 0x40;
            let numbered =
                first[6] & DO_NOT_FRAGMENT != 0 || word(next, 4) == word(first, 4).wrapping_add(number as u16);
            same(0..2) && same(6..10) && same(12..20) && numbered
        }
        IpVersion::V6 => same(0..4) && same(6..40),
    };
    let ports = at..at + 4;
    ip && match layout.protocol {
        TransportProtocol::Tcp => {
            let flags = (first[at + 13] ^ next[at + 13]) & !PSH == 0;
            same(ports) && same(at + 8..at + 13) && flags && same(at + 14..at + 16) && same(at + 18..layout.payload)
        }
        TransportProtocol::Udp => same(ports),
    }
}

fn pushes(packet: &[u8], layout: &PacketLayout) -> bool {
    layout.protocol == TransportProtocol::Tcp && packet[layout.transport + 13] & PSH != 0
}

/// Whether the checksums fit, in the form that cutting gives them: zero has another form (RFC 1071), which a sender that
/// adds up correctly does not use, except in UDP.
fn is_intact(packet: &[u8], layout: &PacketLayout) -> bool {
    const OTHER_ZERO: u16 = 0xffff;
    let ip = match layout.version {
        IpVersion::V4 => {
            word(packet, 10) != OTHER_ZERO && InternetChecksum::default().bytes(&packet[..layout.transport]).is_intact()
        }
        IpVersion::V6 => true,
    };
    // A frame cannot say which form of zero a packet had, and cutting must give back the very same bytes.
    let usual = layout.protocol == TransportProtocol::Udp || word(packet, layout.checksum().start) != OTHER_ZERO;
    ip && usual && layout.pseudo(packet, packet.len()).bytes(&packet[layout.transport..]).is_intact()
}
