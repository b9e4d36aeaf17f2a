//! What arrives on the UDP port, told apart before anything else is done with it: messages of WireGuard, which go to
//! the [`Tunnel`](crate::noise::Tunnel), and everything else, which never reaches it.
//!
//! One pure function decides, so that the port can carry a second protocol later. Today everything else is counted as
//! [`DropReason::NotWireGuard`](crate::noise::DropReason::NotWireGuard) and dropped.

/// Length of a handshake initiation in bytes.
pub(crate) const INITIATION: usize = 148;
/// Length of a handshake response in bytes.
pub(crate) const RESPONSE: usize = 92;
/// Length of a cookie reply in bytes.
pub(crate) const COOKIE_REPLY: usize = 64;
/// Shortest transport message: header and tag around nothing, which is a keepalive.
pub(crate) const DATA_OVERHEAD: usize = 32;

/// What a datagram is, by its first bytes and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatagramClass<'a> {
    /// It has the form of a WireGuard message. Whether it is genuine is not known yet.
    WireGuard(WireGuardMessage<'a>),
    /// It cannot be a WireGuard message.
    Other,
}

/// A datagram that has the form of a WireGuard message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireGuardMessage<'a> {
    pub(crate) header: MessageHeader,
    pub(crate) bytes: &'a [u8],
}

/// The first bytes of a message (WireGuard whitepaper, section 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageHeader {
    /// First handshake message.
    Initiation { sender: u32 },
    /// Second handshake message.
    Response { sender: u32, receiver: u32 },
    /// Demand to prove the source address.
    CookieReply { receiver: u32 },
    /// Encrypted packet.
    Data { receiver: u32, counter: u64 },
}

/// Tells whether a datagram is WireGuard's.
#[inline]
pub fn classify(datagram: &[u8]) -> DatagramClass<'_> {
    match MessageHeader::parse(datagram) {
        Some(header) => DatagramClass::WireGuard(WireGuardMessage { header, bytes: datagram }),
        None => DatagramClass::Other,
    }
}

impl WireGuardMessage<'_> {
    /// The datagram.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }
}

impl MessageHeader {
    /// Reads the header; `None` when it is no WireGuard message.
    #[inline]
    pub(crate) fn parse(datagram: &[u8]) -> Option<Self> {
        // The type is one byte and three reserved ones that are zero. Read as one word, a datagram with anything in the
        // reserved bytes is not WireGuard's, as in the kernel's implementation.
        Some(match (word(datagram, 0)?, datagram.len()) {
            // These three have one length each: a longer one is refused, so that nothing travels behind a handshake.
            (1, INITIATION) => Self::Initiation { sender: word(datagram, 4)? },
            (2, RESPONSE) => Self::Response { sender: word(datagram, 4)?, receiver: word(datagram, 8)? },
            (3, COOKIE_REPLY) => Self::CookieReply { receiver: word(datagram, 4)? },
            (4, DATA_OVERHEAD..) => Self::Data {
                receiver: word(datagram, 4)?,
                counter: u64::from_le_bytes(datagram.get(8..16)?.try_into().ok()?),
            },
            _ => return None,
        })
    }
}

#[inline]
fn word(datagram: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(datagram.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_type(kind: u8, len: usize) -> Vec<u8> {
        let mut datagram = vec![0x77; len];
        datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
        datagram
    }

    fn is_wireguard(datagram: &[u8]) -> bool {
        classify(datagram) != DatagramClass::Other
    }

    #[test]
    fn each_type_has_its_length_and_data_has_a_least_one() {
        for (kind, len) in [(1, INITIATION), (2, RESPONSE), (3, COOKIE_REPLY), (4, DATA_OVERHEAD)] {
            assert!(is_wireguard(&of_type(kind, len)), "type {kind}");
            assert!(!is_wireguard(&of_type(kind, len - 1)), "type {kind}, too short");
            assert_eq!(is_wireguard(&of_type(kind, len + 1)), kind == 4, "type {kind}, longer");
        }
        assert!(!is_wireguard(&of_type(0, INITIATION)) && !is_wireguard(&of_type(5, INITIATION)));
    }

    #[test]
    fn reserved_bytes_are_zero() {
        let mut datagram = of_type(4, 64);
        datagram[3] = 1;
        assert!(!is_wireguard(&datagram));
    }

    #[test]
    fn other_protocols_of_a_shared_port_are_told_apart() {
        // A STUN binding request (RFC 8489) begins with two zero bits and has its magic cookie at byte 4.
        let mut stun = [0; 20];
        stun[1] = 1;
        stun[4..8].copy_from_slice(&0x2112_a442_u32.to_be_bytes());
        // A QUIC long header (RFC 9000) begins with a one.
        let quic = [0xc0; 1200];
        assert!(!is_wireguard(&stun) && !is_wireguard(&quic) && !is_wireguard(&[]));
    }

    proptest! {
        #[test]
        fn what_is_wireguard_s_keeps_its_bytes_and_has_a_known_type(
            datagram in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                (1u8..=4, 0usize..200).prop_map(|(kind, len)| of_type(kind, len.max(4))),
            ],
        ) {
            if let DatagramClass::WireGuard(message) = classify(&datagram) {
                prop_assert_eq!(message.bytes(), &datagram[..]);
                prop_assert!((1..=4).contains(&datagram[0]) && datagram[1..4] == [0; 3]);
                prop_assert!(datagram.len() >= DATA_OVERHEAD);
            }
        }
    }
}
