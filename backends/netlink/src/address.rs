//! Addresses of interfaces (`rtnetlink(7)`, `RTM_*ADDR`).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    Request, Result, Rtnl,
    message::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, attributes, family_of, ip_of},
    own_changes::OwnRemoval,
};

/// Types of messages about addresses (`linux/rtnetlink.h`).
const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

/// Attributes of addresses (`linux/if_addr.h`).
mod ifa {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const LOCAL: u16 = 2;
    pub(super) const FLAGS: u16 = 8;
}

/// Bytes of `struct ifaddrmsg`.
const HEADER: usize = 8;
/// Skips duplicate address detection, which holds an IPv6 address back for about a second.
const IFA_F_NODAD: u32 = 0x02;
/// Makes no route to the address's prefix.
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

/// An address on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Index of the interface.
    pub link: u32,
    /// The address, with its prefix.
    pub net: IpNet,
    /// Scope as the kernel numbers it: 0 global, 253 link, 254 host.
    pub scope: u8,
}

/// What the kernel does about an address's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefixRoute {
    /// It makes a route to the prefix by the interface.
    Connected,
    /// Nothing: the caller routes.
    None,
}

impl Address {
    /// Whether it is valid beyond its link and host.
    pub fn is_global(&self) -> bool {
        self.scope == 0
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        let (prefix, scope) = (*payload.get(1)?, *payload.get(3)?);
        let link = u32::from_ne_bytes(payload.get(4..HEADER)?.try_into().ok()?);
        let (mut local, mut address) = (None, None);
        for (kind, value) in attributes(payload.get(HEADER..)?) {
            match kind {
                ifa::LOCAL => local = ip_of(value),
                ifa::ADDRESS => address = ip_of(value),
                _ => {}
            }
        }
        // On a point-to-point interface the one is ours and the other the far end's.
        let net = IpNet::new(local.or(address)?, prefix).ok()?;
        Some(Self { link, net, scope })
    }
}

/// Adds an address; one that is there already is an error. IPv6 addresses are usable at once.
pub fn add(link: u32, net: IpNet, route: PrefixRoute) -> Request {
    message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, "add address", link, net, route)
}

/// Adds an address or leaves it as it is. IPv6 addresses are usable at once.
pub fn ensure(link: u32, net: IpNet) -> Request {
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    message(RTM_NEWADDR, flags, "ensure address", link, net, PrefixRoute::Connected)
}

/// Removes an address.
pub fn delete(link: u32, net: IpNet) -> Request {
    let mut request = message(RTM_DELADDR, 0, "remove address", link, net, PrefixRoute::Connected);
    request.removal = Some(OwnRemoval::Address(link));
    request
}

impl Rtnl {
    /// The addresses of one interface.
    pub fn addresses(&self, link: u32) -> Result<Vec<Address>> {
        let found = self.dump(|| list(link), Address::parse)?;
        Ok(found.into_iter().filter(|address| address.link == link).collect())
    }

    /// The addresses of all interfaces.
    pub fn all_addresses(&self) -> Result<Vec<Address>> {
        self.dump(|| list(0), Address::parse)
    }
}

fn list(link: u32) -> Request {
    let mut request = Request::new("list addresses".into(), RTM_GETADDR, 0);
    let index = link.to_ne_bytes();
    request.message().append(&[0, 0, 0, 0, index[0], index[1], index[2], index[3]]);
    request
}

fn message(kind: u16, flags: u16, verb: &str, link: u32, net: IpNet, route: PrefixRoute) -> Request {
    let mut request = Request::new(format!("{verb} {net} on link #{link}"), kind, flags);
    let index = link.to_ne_bytes();
    let header = [family_of(net.addr()), net.prefix_len(), 0, 0, index[0], index[1], index[2], index[3]];
    let message = request.message();
    message.append(&header);
    message.attribute_ip(ifa::LOCAL, net.addr());
    message.attribute_ip(ifa::ADDRESS, net.addr());
    let mut extra = 0;
    if matches!(net.addr(), IpAddr::V6(_)) {
        extra |= IFA_F_NODAD;
    }
    if route == PrefixRoute::None {
        extra |= IFA_F_NOPREFIXROUTE;
    }
    message.attribute_u32(ifa::FLAGS, extra);
    request
}
