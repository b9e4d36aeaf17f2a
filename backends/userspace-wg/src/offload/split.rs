use super::{
    FrameOffload, InternetChecksum, PartialChecksum, SegmentKind,
    transport::{IpVersion, PacketLayout, TransportProtocol, long},
};

/// Bytes behind a frame that are scratch: a segment is padded where it lies.
pub const SLACK: usize = 16;
/// Headers longer than this are not cut; the kernel makes none.
const LONGEST_HEADERS: usize = 256;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// How a frame becomes packets.
#[derive(Debug, Clone, Copy)]
pub struct FrameSplit {
    len: usize,
    how: SplitMethod,
}

#[derive(Debug, Clone, Copy)]
enum SplitMethod {
    /// As it is.
    Whole,
    /// One packet whose checksum is completed.
    Complete { start: usize, place: usize, protocol: Option<TransportProtocol> },
    /// Segments of so much payload each.
    SegmentKind { layout: PacketLayout, size: usize },
}

impl FrameSplit {
    /// The frame is a packet as it is.
    pub fn whole(len: usize) -> Self {
        Self { len, how: SplitMethod::Whole }
    }

    /// Looks at the frame; `None` when it is not what its header says.
    pub fn of(offload: &FrameOffload, frame: &[u8]) -> Option<Self> {
        let how = match (offload.segments, offload.checksum) {
            (None, None) => SplitMethod::Whole,
            (None, Some(checksum)) => complete(checksum, frame)?,
            (Some(segments), Some(checksum)) => cut(segments, checksum, frame)?,
            // The kernel cannot have cut what has no checksum to complete.
            (Some(_), None) => return None,
        };
        Some(Self { len: frame.len(), how })
    }

    /// Number of packets.
    pub fn count(&self) -> usize {
        match self.how {
            SplitMethod::Whole | SplitMethod::Complete { .. } => 1,
            SplitMethod::SegmentKind { layout, size } => (self.len - layout.payload).div_ceil(size).max(1),
        }
    }

    /// Lengths of all packets but the last, and of the last.
    pub fn lengths(&self) -> (usize, usize) {
        match self.how {
            SplitMethod::Whole | SplitMethod::Complete { .. } => (self.len, self.len),
            SplitMethod::SegmentKind { layout, size } => (layout.payload + size, self.len - (self.count() - 1) * size),
        }
    }

    /// Gives `each` the packets in order. Each one is given with scratch behind it, [`SLACK`] bytes, which may be
    /// written to; `frame` is the frame with as many bytes behind it.
    ///
    /// No payload is copied: a segment's headers are written over the end of the one before it, which has been used
    /// by then.
    pub fn each(&self, frame: &mut [u8], mut each: impl FnMut(&mut [u8], usize)) {
        match self.how {
            SplitMethod::Whole => each(frame, self.len),
            SplitMethod::Complete { start, place, protocol } => {
                finish(&mut frame[..self.len], start, place, protocol);
                each(frame, self.len);
            }
            SplitMethod::SegmentKind { layout, size } => self.each_segment(frame, &layout, size, each),
        }
    }

    fn each_segment(
        &self,
        frame: &mut [u8],
        layout: &PacketLayout,
        size: usize,
        mut each: impl FnMut(&mut [u8], usize),
    ) {
        let mut headers = [0; LONGEST_HEADERS];
        let headers = &mut headers[..layout.payload];
        headers.copy_from_slice(&frame[..layout.payload]);
        // The field holds the pseudo header's sum for the whole frame; each segment has a length, and so a sum, of its own.
        headers[layout.checksum()].fill(0);
        let count = self.count();
        let (len, last) = self.lengths();
        for number in 0..count {
            let start = number * size;
            let len = if number + 1 == count { last } else { len };
            let slot = &mut frame[start..start + len + SLACK];
            slot[..layout.payload].copy_from_slice(headers);
            let place = SegmentPosition { number, size, count };
            adjust(&mut slot[..len], layout, &place);
            let (packet, behind) = slot.split_at_mut(len);
            let sum = layout.pseudo(packet, len).bytes(&packet[layout.transport..]);
            packet[layout.checksum()].copy_from_slice(&never_zero(sum.checksum(), layout.protocol));
            // Padding and sealing write behind the packet, where the next segment's payload begins. It is put back afterwards.
            let next: [u8; SLACK] = std::array::from_fn(|at| behind[at]);
            each(slot, len);
            slot[len..].copy_from_slice(&next);
        }
    }
}

/// Which segment of a frame.
struct SegmentPosition {
    number: usize,
    size: usize,
    count: usize,
}

/// Everything in a segment's headers that differs from the frame's, but for the checksum.
fn adjust(packet: &mut [u8], layout: &PacketLayout, place: &SegmentPosition) {
    layout.set_len(packet, packet.len(), place.number as u16);
    if layout.protocol == TransportProtocol::Tcp {
        let tcp = &mut packet[layout.transport..];
        let sequence = long(tcp, 4).wrapping_add((place.number * place.size) as u32);
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        if place.number > 0 {
            // CWR answers one congestion signal and is sent once (RFC 3168, section 6.1.2).
            tcp[13] &= !CWR;
        }
        if place.number + 1 < place.count {
            // The end of the stream and the push belong to the last byte, which is in the last segment.
            tcp[13] &= !(FIN | PSH);
        }
    }
}

/// A UDP checksum that comes out as zero is sent as its other zero: zero means that there is none (RFC 768).
fn never_zero(checksum: [u8; 2], protocol: TransportProtocol) -> [u8; 2] {
    if protocol == TransportProtocol::Udp && checksum == [0, 0] { [0xff, 0xff] } else { checksum }
}

fn complete(checksum: PartialChecksum, frame: &[u8]) -> Option<SplitMethod> {
    let start = usize::from(checksum.start);
    let place = start + usize::from(checksum.offset);
    if place + 2 > frame.len() {
        return None;
    }
    let protocol =
        (usize::from(checksum.offset) == TransportProtocol::Udp.checksum_at()).then_some(TransportProtocol::Udp);
    Some(SplitMethod::Complete { start, place, protocol })
}

/// The sum of the pseudo header stands where the checksum will.
fn finish(frame: &mut [u8], start: usize, place: usize, protocol: Option<TransportProtocol>) {
    let checksum = InternetChecksum::default().bytes(&frame[start..]).checksum();
    let checksum = protocol.map_or(checksum, |protocol| never_zero(checksum, protocol));
    frame[place..place + 2].copy_from_slice(&checksum);
}

fn cut(segments: SegmentKind, checksum: PartialChecksum, frame: &[u8]) -> Option<SplitMethod> {
    let (protocol, size, version) = match segments {
        SegmentKind::Tcp4(size) => (TransportProtocol::Tcp, size, Some(IpVersion::V4)),
        SegmentKind::Tcp6(size) => (TransportProtocol::Tcp, size, Some(IpVersion::V6)),
        SegmentKind::Udp(size) => (TransportProtocol::Udp, size, None),
    };
    let transport = usize::from(checksum.start);
    let layout = PacketLayout::with_transport_at(frame, protocol, transport)?;
    // The header says where TCP begins, and it comes from the kernel; but options of IPv4 could disagree, and a wrong
    // place would corrupt the packet.
    let ip_fits = match layout.version {
        IpVersion::V4 => PacketLayout::v4_header(frame)? == transport,
        IpVersion::V6 => transport >= super::transport::IPV6_HEADER,
    };
    let consistent = ip_fits
        && size > 0
        && version.is_none_or(|version| version == layout.version)
        && usize::from(checksum.offset) == protocol.checksum_at()
        && layout.payload <= LONGEST_HEADERS
        && frame.len() <= usize::from(u16::MAX) + super::transport::IPV6_HEADER;
    consistent.then_some(SplitMethod::SegmentKind { layout, size: size.into() })
}
