//! Addresses as bytes in messages.

use std::net::IpAddr;

use nlink::netlink::MessageBuilder;

/// The kernel's number of an address family (`linux/socket.h`).
pub(crate) trait Family {
    fn family(&self) -> u8;
}

impl Family for IpAddr {
    fn family(&self) -> u8 {
        match self {
            Self::V4(_) => 2,
            Self::V6(_) => 10,
        }
    }
}

/// An address from its 4 or 16 bytes.
pub(crate) fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

pub(crate) fn append_ip(message: &mut MessageBuilder, attribute: u16, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => message.append_attr(attribute, &v4.octets()),
        IpAddr::V6(v6) => message.append_attr(attribute, &v6.octets()),
    }
}
