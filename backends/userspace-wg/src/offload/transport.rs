use super::checksum::InternetChecksum;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// Which version of IP, from the first byte of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IpVersion {
    V4,
    V6,
}

/// What is above IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TransportProtocol {
    Tcp,
    Udp,
}

/// Where things are in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PacketLayout {
    pub(super) version: IpVersion,
    pub(super) protocol: TransportProtocol,
    /// Bytes before the TCP or UDP header.
    pub(super) transport: usize,
    /// Bytes before the payload.
    pub(super) payload: usize,
}

impl IpVersion {
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 if packet.len() >= IPV4_HEADER => Some(Self::V4),
            6 if packet.len() >= IPV6_HEADER => Some(Self::V6),
            _ => None,
        }
    }

    /// Where the two addresses are.
    pub(super) fn addresses(self) -> std::ops::Range<usize> {
        match self {
            Self::V4 => 12..20,
            Self::V6 => 8..40,
        }
    }
}

impl TransportProtocol {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => TCP,
            Self::Udp => UDP,
        }
    }

    /// Bytes from the start of the header to its checksum.
    pub(super) fn checksum_at(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

impl PacketLayout {
    /// Reads the lengths of the headers; `None` when they do not fit into the packet.
    pub(super) fn with_transport_at(packet: &[u8], protocol: TransportProtocol, transport: usize) -> Option<Self> {
        let version = IpVersion::of(packet)?;
        let header = match protocol {
            TransportProtocol::Tcp => usize::from(packet.get(transport + 12)? >> 4) * 4,
            TransportProtocol::Udp => UDP_HEADER,
        };
        // A data offset below five would have the payload begin inside the header.
        let least = if protocol == TransportProtocol::Tcp { TCP_HEADER } else { UDP_HEADER };
        let payload = transport + header;
        (header >= least && payload <= packet.len()).then_some(Self { version, protocol, transport, payload })
    }

    /// Bytes of the IPv4 header with its options.
    pub(super) fn v4_header(packet: &[u8]) -> Option<usize> {
        // The header length counts words of 32 bits; a packet with options has more than five.
        let len = usize::from(packet.first()? & 0xf) * 4;
        (len >= IPV4_HEADER && len <= packet.len()).then_some(len)
    }

    /// The pseudo header's sum for a packet of `len` bytes.
    pub(super) fn pseudo(&self, packet: &[u8], len: usize) -> InternetChecksum {
        InternetChecksum::default()
            .bytes(&packet[self.version.addresses()])
            .protocol(self.protocol.number(), len - self.transport)
    }

    /// Where the checksum of TCP or UDP is.
    pub(super) fn checksum(&self) -> std::ops::Range<usize> {
        let at = self.transport + self.protocol.checksum_at();
        at..at + 2
    }

    /// Writes the length of the whole packet into its headers, with the IPv4 checksum; `id` is added to the IPv4
    /// identification.
    pub(super) fn set_len(&self, packet: &mut [u8], len: usize, id: u16) {
        match self.version {
            IpVersion::V4 => {
                put(packet, 2, len as u16);
                put(packet, 4, word(packet, 4).wrapping_add(id));
                // The checksum covers its own field as zero.
                put(packet, 10, 0);
                let header = Self::v4_header(packet).unwrap_or(IPV4_HEADER);
                let checksum = InternetChecksum::default().bytes(&packet[..header]).checksum();
                packet[10..12].copy_from_slice(&checksum);
            }
            IpVersion::V6 => put(packet, 4, (len - IPV6_HEADER) as u16),
        }
        if self.protocol == TransportProtocol::Udp {
            put(packet, self.transport + 4, (len - self.transport) as u16);
        }
    }
}

pub(super) fn word(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

pub(super) fn put(packet: &mut [u8], at: usize, word: u16) {
    packet[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

pub(super) fn long(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}
