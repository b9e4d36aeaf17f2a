/// Length of the header before each frame (`struct virtio_net_hdr`) in bytes.
pub const VNET_HEADER: usize = 10;

/// Only the part of the checksum that covers the pseudo header is in its place (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
/// The first segment alone carries the mark that the congestion window was reduced.
const GSO_ECN: u8 = 0x80;

/// What is left to do with a frame: the header before it (virtio 1.2, section 5.1.6), in the machine's byte order as
/// TUN has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameOffload {
    /// The checksum that is to be completed.
    pub checksum: Option<PartialChecksum>,
    /// The segments that it is to be cut into.
    pub segments: Option<SegmentKind>,
}

/// A checksum to be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Bytes before what it covers.
    pub start: u16,
    /// Bytes from there to its place.
    pub offset: u16,
}

/// How a frame is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentKind {
    /// TCP over IPv4, so many bytes of payload in each.
    Tcp4(u16),
    /// TCP over IPv6.
    Tcp6(u16),
    /// UDP over either.
    Udp(u16),
}

impl FrameOffload {
    /// Reads the header; `None` when it asks for something that was never offered to the kernel.
    pub fn parse(bytes: &[u8; VNET_HEADER]) -> Option<Self> {
        let checksum =
            (bytes[0] & NEEDS_CHECKSUM != 0).then(|| PartialChecksum { start: word(bytes, 6), offset: word(bytes, 8) });
        let size = word(bytes, 4);
        let segments = match bytes[1] & !GSO_ECN {
            GSO_NONE => None,
            // The size divides the payload when the frame is cut.
            _ if size == 0 => return None,
            GSO_TCP4 => Some(SegmentKind::Tcp4(size)),
            GSO_TCP6 => Some(SegmentKind::Tcp6(size)),
            GSO_UDP => Some(SegmentKind::Udp(size)),
            _ => return None,
        };
        Some(Self { checksum, segments })
    }

    /// Writes the header of a frame whose headers take `headers` bytes.
    pub fn write(&self, headers: u16) -> [u8; VNET_HEADER] {
        let mut bytes = [0; VNET_HEADER];
        let (kind, size) = match self.segments {
            None => (GSO_NONE, 0),
            Some(SegmentKind::Tcp4(size)) => (GSO_TCP4, size),
            Some(SegmentKind::Tcp6(size)) => (GSO_TCP6, size),
            Some(SegmentKind::Udp(size)) => (GSO_UDP, size),
        };
        if self.segments.is_some() {
            put(&mut bytes, 2, headers);
            put(&mut bytes, 4, size);
        }
        if let Some(PartialChecksum { start, offset }) = self.checksum {
            put(&mut bytes, 6, start);
            put(&mut bytes, 8, offset);
            // `csum_start` and `csum_offset` are read only with this flag.
            bytes[0] = NEEDS_CHECKSUM;
        }
        bytes[1] = kind;
        bytes
    }
}

#[inline]
fn word(bytes: &[u8; VNET_HEADER], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
fn put(bytes: &mut [u8; VNET_HEADER], at: usize, word: u16) {
    bytes[at..at + 2].copy_from_slice(&word.to_ne_bytes());
}
