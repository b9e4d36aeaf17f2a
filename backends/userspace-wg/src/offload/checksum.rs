use std::net::IpAddr;

/// A sum of 16-bit words as the Internet checksum needs it (RFC 1071), in the machine's byte order until it is written.
///
/// Pieces of an even number of bytes may be added one by one in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InternetChecksum(u64);

impl InternetChecksum {
    /// Adds bytes; of an odd number the last one counts as followed by a zero.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        // Words of 32 bits leave so much room in 64 that no carry is lost within the largest packet, and four sums at
        // once let the processor add them side by side.
        let (blocks, rest) = bytes.as_chunks::<32>();
        let mut lanes = [0u64; 8];
        for block in blocks {
            let (words, _) = block.as_chunks::<4>();
            for (send_session, word) in lanes.iter_mut().zip(words) {
                *send_session += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let mut sum = self.0 + lanes.iter().sum::<u64>();
        let (words, last) = rest.as_chunks::<2>();
        for word in words {
            sum += u64::from(u16::from_ne_bytes(*word));
        }
        if let [byte] = last {
            sum += u64::from(u16::from_ne_bytes([*byte, 0]));
        }
        Self(sum)
    }

    /// Adds a number as it stands in a header.
    #[must_use]
    pub fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word.to_be()))
    }

    /// Adds the pseudo header of TCP or UDP: addresses, protocol and the length of header and payload in bytes (RFC
    /// 9293, section 3.1; RFC 8200, section 8.1).
    #[must_use]
    pub fn pseudo_header(self, source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Self {
        [source, destination].into_iter().fold(self, Self::address).protocol(protocol, len)
    }

    fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.bytes(&v4.octets()),
            IpAddr::V6(v6) => self.bytes(&v6.octets()),
        }
    }

    /// Adds the last part of a pseudo header: protocol and the length of transport header and payload in bytes.
    #[must_use]
    pub(crate) fn protocol(self, protocol: u8, len: usize) -> Self {
        // The length is less than 2^16 for all that a device carries.
        // RFC 8200 has a length of 32 bits here. The upper half is zero for every packet of a device, and adds nothing.
        self.word(protocol.into()).word(len as u16)
    }

    /// The sum in 16 bits, as it stands in a header.
    pub fn fold(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        // The sum does not depend on the byte order it is taken in (RFC 1071, section 2.B), so no word is swapped.
        (sum as u16).to_ne_bytes()
    }

    /// The checksum itself, as it stands in a header.
    pub fn checksum(self) -> [u8; 2] {
        self.fold().map(|byte| !byte)
    }

    /// Whether this, the sum over everything with the checksum in it, says that nothing was changed.
    pub fn is_intact(self) -> bool {
        self.fold() == [0xff, 0xff]
    }
}
