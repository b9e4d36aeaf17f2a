/// Length of a handshake initiation in bytes.
pub(crate) const INITIATION: usize = 148;
/// Length of a handshake response in bytes.
pub(crate) const RESPONSE: usize = 92;
/// Length of a cookie reply in bytes.
pub(crate) const COOKIE_REPLY: usize = 64;
/// Shortest transport message: header and tag around nothing, which is a keepalive.
pub(crate) const DATA_OVERHEAD: usize = 32;

/// What a datagram claims to be, by its first bytes and its length (WireGuard whitepaper, section 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageHeader {
    /// First handshake message.
    OpenedInitiation { sender: u32 },
    /// Second handshake message.
    Response { sender: u32, receiver: u32 },
    /// Demand to prove the source address.
    CookieReply { receiver: u32 },
    /// Encrypted packet.
    Data { receiver: u32, counter: u64 },
}

impl MessageHeader {
    /// Reads the header; `None` when it is no WireGuard message.
    pub(crate) fn parse(datagram: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(datagram.get(at..at + 4)?.try_into().ok()?));
        Some(match (word(0)?, datagram.len()) {
            (1, INITIATION) => Self::OpenedInitiation { sender: word(4)? },
            (2, RESPONSE) => Self::Response { sender: word(4)?, receiver: word(8)? },
            (3, COOKIE_REPLY) => Self::CookieReply { receiver: word(4)? },
            (4, DATA_OVERHEAD..) => {
                Self::Data { receiver: word(4)?, counter: u64::from_le_bytes(datagram.get(8..16)?.try_into().ok()?) }
            }
            _ => return None,
        })
    }
}
