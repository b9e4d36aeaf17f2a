//! Netlink messages as bytes (`linux/netlink.h`): requests are built, answers are read. Pure.
//!
//! A message is a header of 16 bytes, a fixed structure that depends on its type, and attributes: length and type, both
//! in the byte order of the host, then a value, padded to four bytes. An attribute may nest others.

use std::net::IpAddr;

/// Flags of a request.
pub(crate) const NLM_F_REQUEST: u16 = 0x01;
pub(crate) const NLM_F_ACK: u16 = 0x04;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;

/// Types of messages that are not a protocol's own.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// The kernel says so in a listing that was changed while it was made.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// An error does not repeat the whole request, and has attributes that explain it.
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
/// The explanation in words (`NLMSGERR_ATTR_MSG`).
const EXPLANATION: u16 = 1;
/// Set in the type of an attribute that nests others; the bit below says that a number is big-endian.
const NESTED: u16 = 0x8000;
const ATTRIBUTE_KIND: u16 = 0x3fff;

/// A message that is being built.
#[derive(Debug, Clone)]
pub(crate) struct MessageBuilder {
    bytes: Vec<u8>,
    /// Whether an attribute is longer than the 16 bits of its length.
    overlong: bool,
}

impl MessageBuilder {
    pub(crate) fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.resize(HEADER, 0);
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self { bytes, overlong: false }
    }

    /// Attributes without a message around them, to be put into one later.
    pub(crate) fn attributes() -> Self {
        Self::new(0, 0)
    }

    /// Everything after the header.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }

    pub(crate) fn is_overlong(&self) -> bool {
        self.overlong
    }

    /// A fixed structure, or attributes that were built before.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(value);
        self.close(start, kind);
    }

    pub(crate) fn attribute_u8(&mut self, kind: u16, value: u8) {
        self.attribute(kind, &[value]);
    }

    pub(crate) fn attribute_u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// A number as netfilter has it.
    pub(crate) fn attribute_be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Text with the zero byte at its end.
    pub(crate) fn attribute_text(&mut self, kind: u16, text: &str) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.close(start, kind);
    }

    pub(crate) fn attribute_ip(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attribute(kind, &v6.octets()),
        }
    }

    /// An attribute of those that `fill` adds.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        fill(self);
        self.close(start, kind | NESTED);
    }

    /// Adds the finished message to a datagram, with these flags as well.
    pub(crate) fn write_to(&self, datagram: &mut Vec<u8>, flags: u16, sequence: u32) {
        let start = datagram.len();
        datagram.extend_from_slice(&self.bytes);
        let message = &mut datagram[start..];
        let flags = u16::from_ne_bytes([message[6], message[7]]) | flags;
        message[0..4].copy_from_slice(&(self.bytes.len() as u32).to_ne_bytes());
        message[6..8].copy_from_slice(&flags.to_ne_bytes());
        message[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }

    fn close(&mut self, start: usize, kind: u16) {
        let length = u16::try_from(self.bytes.len() - start);
        self.overlong |= length.is_err();
        self.bytes[start..start + 2].copy_from_slice(&length.unwrap_or(u16::MAX).to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A message that was received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReceivedMessage<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    /// Port of the socket on whose request the kernel sends it; 0 for none.
    pub(crate) port: u32,
    pub(crate) payload: &'a [u8],
    flags: u16,
}

impl ReceivedMessage<'_> {
    pub(crate) fn is_verdict(&self) -> bool {
        self.kind == NLMSG_ERROR
    }

    pub(crate) fn is_end(&self) -> bool {
        self.kind == NLMSG_DONE
    }

    pub(crate) fn is_torn(&self) -> bool {
        self.flags & NLM_F_DUMP_INTR != 0
    }

    /// The error number of a verdict, or of the end of a listing; 0 where there was none.
    pub(crate) fn errno(&self) -> i32 {
        let code = self.payload.first_chunk().copied().map_or(0, i32::from_ne_bytes);
        code.saturating_neg().max(0)
    }

    /// What the kernel says of an error in words, if it does.
    pub(crate) fn explanation(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        // The error number, the header of the request, and all of the request where it is not cut off.
        let request = self.payload.get(4..)?;
        let length = u32::from_ne_bytes(*request.first_chunk()?) as usize;
        let repeated = if self.flags & NLM_F_CAPPED == 0 { length.next_multiple_of(4) } else { HEADER };
        let text = attribute_of(request.get(repeated..)?, EXPLANATION)?;
        Some(text_of(text))
    }
}

/// The messages of a datagram; what is cut off or makes no sense ends them.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = ReceivedMessage<'_>> {
    std::iter::from_fn(move || {
        let header = datagram.first_chunk::<HEADER>()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let payload = datagram.get(HEADER..length)?;
        let message = ReceivedMessage {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            port: u32::from_ne_bytes([header[12], header[13], header[14], header[15]]),
            payload,
        };
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

/// Types and values of attributes that follow each other; what is cut off or makes no sense ends them.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & ATTRIBUTE_KIND;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub(crate) fn attribute_of(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(kind, value)| (kind == wanted).then_some(value))
}

/// The attribute at the end of this path of nested ones.
pub(crate) fn nested_attribute<'a>(bytes: &'a [u8], path: &[u16]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |bytes, kind| attribute_of(bytes, *kind))
}

/// Text up to its first zero byte.
pub(crate) fn text_of(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A number in the byte order of the host.
pub(crate) fn u32_of(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

/// A number as netfilter has it.
pub(crate) fn be32_of(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// An address from its 4 or 16 bytes.
pub(crate) fn ip_of(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The kernel's number of the address's family (`linux/socket.h`).
pub(crate) fn family_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(message: &MessageBuilder) -> Vec<u8> {
        let mut datagram = Vec::new();
        message.write_to(&mut datagram, NLM_F_ACK, 7);
        datagram
    }

    #[test]
    fn what_is_built_is_read_again() {
        let mut message = MessageBuilder::new(16, NLM_F_REQUEST);
        message.append(&[1; 8]);
        message.attribute_u32(3, 5);
        message.nest(9, |message| {
            message.attribute_text(1, "eth0");
            message.attribute_be32(2, 6);
        });
        let bytes = [datagram(&message), datagram(&message)].concat();
        let read: Vec<_> = messages(&bytes).collect();
        assert_eq!(read.len(), 2);
        let ReceivedMessage { kind, sequence, flags, payload, .. } = read[1];
        assert_eq!((kind, sequence, flags), (16, 7, NLM_F_REQUEST | NLM_F_ACK));
        let attributes = &payload[8..];
        assert_eq!(attribute_of(attributes, 3).and_then(u32_of), Some(5));
        assert_eq!(nested_attribute(attributes, &[9, 1]).map(text_of).as_deref(), Some("eth0"));
        assert_eq!(nested_attribute(attributes, &[9, 2]).and_then(be32_of), Some(6));
        assert_eq!(nested_attribute(attributes, &[9, 4]), None);
    }

    #[test]
    fn broken_attributes_end_the_list() {
        for bytes in [&[9, 0, 1, 0, 7][..], &[2, 0, 1, 0], &[0, 0], &[255; 7]] {
            assert_eq!(attributes(bytes).count(), 0);
        }
    }

    #[test]
    fn a_message_that_is_cut_off_ends_the_datagram() {
        let whole = datagram(&MessageBuilder::new(16, 0));
        for length in 0..whole.len() {
            assert_eq!(messages(&whole[..length]).count(), 0);
        }
    }

    #[test]
    fn an_attribute_that_does_not_fit_is_noticed() {
        let mut message = MessageBuilder::new(16, 0);
        message.attribute(1, &[0; 65_531]);
        assert!(!message.is_overlong());
        message.nest(1, |message| message.attribute(1, &[0; 65_530]));
        assert!(message.is_overlong());
    }

    #[test]
    fn an_error_is_explained_in_the_kernels_words() {
        let request = datagram(&MessageBuilder::new(16, 0));
        let mut error = MessageBuilder::new(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS);
        error.append(&(-17i32).to_ne_bytes());
        error.append(&request);
        error.attribute_text(EXPLANATION, "it exists");
        let bytes = datagram(&error);
        let read = messages(&bytes).next().unwrap();
        assert!(read.is_verdict());
        assert_eq!((read.errno(), read.explanation().as_deref()), (17, Some("it exists")));
    }

    proptest::proptest! {
        /// Every byte that is read lies inside the datagram, no matter what its lengths claim.
        #[test]
        fn any_bytes_are_read_to_an_end(bytes: Vec<u8>, flags: u16) {
            for message in messages(&bytes) {
                let message = ReceivedMessage { flags, ..message };
                assert!(message.payload.len() + HEADER <= bytes.len());
                assert!(message.errno() >= 0);
                assert!(message.explanation().is_none_or(|text| !text.contains('\0')));
                assert!(attributes(message.payload).all(|(_, value)| value.len() + 4 <= message.payload.len()));
            }
            assert!(attributes(&bytes).all(|(_, value)| value.len() + 4 <= bytes.len()));
        }
    }
}
