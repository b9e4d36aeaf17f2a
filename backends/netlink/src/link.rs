//! Network interfaces: finding, creating, changing and deleting them (`rtnetlink(7)`, `RTM_*LINK`).

mod change;
mod create;

pub use change::{Ipv4Setting, LinkChange, PortState};
pub use create::{NewBridge, NewVeth, NewWireGuard};

use crate::{
    Request, Result, Rtnl,
    message::{attribute_of, attributes, text_of, u32_of},
    own_changes::OwnRemoval,
};

/// Types of messages about links (`linux/rtnetlink.h`).
pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
/// Bytes of `struct ifinfomsg`: family, padding, type of the device, index, flags, and which flags are meant.
const HEADER: usize = 16;

/// Attributes of links (`linux/if_link.h`).
mod ifla {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const IFNAME: u16 = 3;
    pub(super) const MTU: u16 = 4;
    pub(super) const LINK: u16 = 5;
    pub(super) const MASTER: u16 = 10;
    pub(super) const OPERSTATE: u16 = 16;
    pub(super) const LINKINFO: u16 = 18;
    pub(super) const NET_NS_PID: u16 = 19;
    pub(super) const IFALIAS: u16 = 20;
    pub(super) const AF_SPEC: u16 = 26;
    pub(super) const GROUP: u16 = 27;
    pub(super) const NET_NS_FD: u16 = 28;
    pub(super) const EXT_MASK: u16 = 29;
    pub(super) const NUM_TX_QUEUES: u16 = 31;
    pub(super) const NUM_RX_QUEUES: u16 = 32;
    pub(super) const LINK_NETNSID: u16 = 37;
    pub(super) const TARGET_NETNSID: u16 = 46;

    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const INFO_DATA: u16 = 2;
    pub(super) const INFO_SLAVE_KIND: u16 = 4;
    pub(super) const INFO_SLAVE_DATA: u16 = 5;
}

/// Flag of an interface that is administratively up (`linux/if.h`).
const IFF_UP: u32 = 1;
/// Leaves counters out of an answer (`linux/rtnetlink.h`).
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

/// A hardware address.
pub type Mac = [u8; 6];

/// How a request names a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkRef<'a> {
    /// LinkRef interface index.
    Index(u32),
    /// LinkRef interface name.
    Name(&'a str),
}

impl From<u32> for LinkRef<'_> {
    fn from(index: u32) -> Self {
        Self::Index(index)
    }
}

impl<'a> From<&'a str> for LinkRef<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl<'a> From<&'a String> for LinkRef<'a> {
    fn from(name: &'a String) -> Self {
        Self::Name(name)
    }
}

impl std::fmt::Display for LinkRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(index) => write!(f, "#{index}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// An interface as the kernel reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Kind of virtual device, as `bridge` or `veth`; `None` for hardware and the loopback device.
    pub kind: Option<String>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Hardware address, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// Index of the bridge (or other master) that it is a port of.
    pub master: Option<u32>,
    /// Free text on the interface; ours carries the mark.
    pub alias: Option<String>,
    /// Interface group.
    pub group: u32,
    /// Index of the device it is bound to: of the other end for veth, in that end's namespace.
    pub peer: Option<u32>,
    /// Number that this namespace has for the other end's, where they differ.
    pub peer_netns: Option<u32>,
    /// Operational state (RFC 2863) as the kernel numbers it; 6 is up.
    pub operstate: u8,
}

impl Link {
    /// Whether the interface is of this kind, as `bridge`.
    pub fn is_kind(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }

    /// Whether it passes packets (RFC 2863 `up`; a device that cannot tell counts as such).
    pub fn is_operational(&self) -> bool {
        const UNKNOWN: u8 = 0;
        const UP: u8 = 6;
        self.up && matches!(self.operstate, UNKNOWN | UP)
    }

    /// From the message that tells of it.
    pub(crate) fn told(payload: &[u8]) -> Option<Self> {
        /// Bridges tell of their ports in messages of their own, which are incomplete.
        const AF_UNSPEC: u8 = 0;
        if payload.first() == Some(&AF_UNSPEC) { Self::parse(payload) } else { None }
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        let index = payload.get(4..8).and_then(u32_of)?;
        let flags = payload.get(8..12).and_then(u32_of)?;
        let mut link = Self { index, up: flags & IFF_UP != 0, ..Self::default() };
        for (kind, value) in attributes(payload.get(HEADER..)?) {
            match kind {
                ifla::IFNAME => link.name = text_of(value),
                ifla::MTU => link.mtu = number(value),
                ifla::ADDRESS => link.mac = value.try_into().ok(),
                ifla::MASTER => link.master = Some(number(value)),
                ifla::IFALIAS => link.alias = Some(text_of(value)),
                ifla::GROUP => link.group = number(value),
                ifla::LINK_NETNSID => link.peer_netns = Some(number(value)),
                ifla::LINK => link.peer = Some(number(value)),
                ifla::OPERSTATE => link.operstate = value.first().copied().unwrap_or_default(),
                ifla::LINKINFO => link.kind = attribute_of(value, ifla::INFO_KIND).map(text_of),
                _ => {}
            }
        }
        Some(link)
    }
}

fn number(value: &[u8]) -> u32 {
    u32_of(value).unwrap_or_default()
}

impl Rtnl {
    /// The link of that name or index; `None` where there is none.
    pub fn link<'a>(&self, by: impl Into<LinkRef<'a>>) -> Result<Option<Link>> {
        use crate::error::OrAbsent;
        let by = by.into();
        let mut request = header(format!("look up link {by}"), RTM_GETLINK, 0, by, AdminState::Keep);
        request.message().attribute_u32(ifla::EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        self.get(request, Link::parse).or_absent()
    }

    /// The other end of a veth pair, also in another namespace; `None` where it is gone or out of sight.
    pub fn other_end(&self, link: &Link) -> Result<Option<Link>> {
        use crate::error::OrAbsent;
        let (Some(index), Some(netns)) = (link.peer, link.peer_netns) else { return Ok(None) };
        let action = format!("look up the other end of {}", link.name);
        let mut request = header(action, RTM_GETLINK, 0, LinkRef::Index(index), AdminState::Keep);
        request.message().attribute_u32(ifla::TARGET_NETNSID, netns);
        request.message().attribute_u32(ifla::EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        self.get(request, Link::parse).or_absent()
    }

    /// All links of the namespace, as they were at one moment.
    pub fn links(&self) -> Result<Vec<Link>> {
        let request = || {
            let by = LinkRef::Index(0);
            let mut request = header("list links".into(), RTM_GETLINK, 0, by, AdminState::Keep);
            request.message().attribute_u32(ifla::EXT_MASK, RTEXT_FILTER_SKIP_STATS);
            request
        };
        self.dump(request, Link::parse)
    }

    /// The links of one kind, as `tun`. The kernel leaves the others out, so that a host with many containers is asked no
    /// more than one with few.
    pub fn links_of(&self, kind: &str) -> Result<Vec<Link>> {
        let request = || {
            let by = LinkRef::Index(0);
            let mut request = header(format!("list {kind} links"), RTM_GETLINK, 0, by, AdminState::Keep);
            request.message().attribute_u32(ifla::EXT_MASK, RTEXT_FILTER_SKIP_STATS);
            request.message().nest(ifla::LINKINFO, |info| info.attribute_text(ifla::INFO_KIND, kind));
            request
        };
        let mut links = self.dump(request, Link::parse)?;
        // A kernel that has no such kind leaves nothing out.
        links.retain(|link| link.is_kind(kind));
        Ok(links)
    }
}

/// Deletes one link. Deleting one end of a veth pair deletes the other one as well. The kernel takes some 20 ms for it.
pub fn delete<'a>(link: impl Into<LinkRef<'a>>) -> Request {
    let by = link.into();
    let mut request = header(format!("delete link {by}"), RTM_DELLINK, 0, by, AdminState::Keep);
    if let LinkRef::Index(index) = by {
        request.removal = Some(OwnRemoval::Link(index));
    }
    request
}

/// Deletes every link of an interface group at once, for hardly more time than one costs. An empty group is an error
/// that [`crate::Error::is_absent`] knows.
pub fn delete_group(group: u32) -> Request {
    let by = LinkRef::Index(0);
    let mut request = header(format!("delete link group {group}"), RTM_DELLINK, 0, by, AdminState::Keep);
    request.message().attribute_u32(ifla::GROUP, group);
    request
}

/// Changes an existing link.
pub fn change<'a>(link: impl Into<LinkRef<'a>>) -> LinkChange<'a> {
    LinkChange::new(link.into())
}

/// Brings a link up.
pub fn up<'a>(link: impl Into<LinkRef<'a>>) -> Request {
    change(link).up().request()
}

/// The administrative state that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AdminState {
    Keep,
    Up,
    Down,
}

/// A link request up to its first attribute; a name becomes that attribute.
fn header(action: String, kind: u16, flags: u16, by: LinkRef<'_>, state: AdminState) -> Request {
    let mut request = Request::new(action, kind, flags);
    let index = if let LinkRef::Index(index) = by { index } else { 0 };
    let flags = if state == AdminState::Up { IFF_UP } else { 0 };
    let meant = if state == AdminState::Keep { 0 } else { IFF_UP };
    let message = request.message();
    for word in [0, index, flags, meant] {
        message.append(&word.to_ne_bytes());
    }
    if let LinkRef::Name(name) = by {
        message.attribute_text(ifla::IFNAME, name);
    }
    request
}
