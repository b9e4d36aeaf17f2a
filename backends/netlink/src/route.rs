//! Routes (`rtnetlink(7)`, `RTM_*ROUTE`).

use std::net::IpAddr;

use ipnet::IpNet;
use rustix::io::Errno;

use crate::{
    Request, Result, Rtnl,
    message::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, attributes, family_of, ip_of, u32_of},
};

/// Types of messages about routes (`linux/rtnetlink.h`).
const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
/// Bytes of `struct rtmsg`: family, prefix lengths of destination and source, type of service, table, protocol, scope,
/// type, and flags of 32 bits.
pub(crate) const HEADER: usize = 12;

/// Number that marks the routes of this program (`ip route` shows it as `proto 111`); no other program has claimed it in
/// `/etc/iproute2/rt_protos`.
pub const PROTOCOL: u8 = 111;

/// Attributes of routes (`linux/rtnetlink.h`).
pub(crate) mod rta {
    pub(super) const DST: u16 = 1;
    pub(crate) const OIF: u16 = 4;
    pub(super) const GATEWAY: u16 = 5;
    pub(super) const PRIORITY: u16 = 6;
    pub(super) const PREFSRC: u16 = 7;
    pub(super) const TABLE: u16 = 15;
}

const MAIN_TABLE: u8 = 254;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_NOWHERE: u8 = 255;
const UNICAST: u8 = 1;
/// The gateway is reachable by the interface although no route says so.
const RTNH_F_ONLINK: u32 = 4;

/// What must hold for a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHop {
    /// Another route says that it is on the link.
    Routed,
    /// It is on the link because this route says so.
    OnLink,
}

/// A unicast route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where packets go to.
    pub destination: IpNet,
    /// Index of the interface they leave by; `None` follows the gateway.
    pub link: Option<u32>,
    /// Next hop; `None` is on-link.
    pub gateway: Option<IpAddr>,
    /// What the kernel may ask of the next hop.
    pub next_hop: NextHop,
    /// Source address that the host itself prefers here.
    pub source: Option<IpAddr>,
    /// Lower wins; `None` is the kernel's choice.
    pub metric: Option<u32>,
    /// Who made the route; [`PROTOCOL`] for ours.
    pub protocol: u8,
}

impl Route {
    /// An on-link route, marked as this program's.
    pub fn by_link(destination: IpNet, link: u32) -> Self {
        let link = Some(link);
        let destination = destination.trunc();
        let next_hop = NextHop::Routed;
        Self { destination, link, gateway: None, next_hop, source: None, metric: None, protocol: PROTOCOL }
    }

    /// The route that the kernel makes for an address with a prefix, down to who made it and the metric: it goes with the
    /// address. `None` for an address without one.
    pub fn connected(address: IpNet, link: u32) -> Option<Self> {
        /// Who the kernel is among those that make routes (`RTPROT_KERNEL`), and its metric for IPv6.
        const KERNEL: u8 = 2;
        const METRIC_V6: u32 = 256;
        if address.prefix_len() == address.max_prefix_len() {
            return None;
        }
        let route = Self { protocol: KERNEL, ..Self::by_link(address.trunc(), link) };
        Some(match address {
            IpNet::V4(v4) => route.from_source(v4.addr().into()),
            IpNet::V6(_) => Self { metric: Some(METRIC_V6), ..route },
        })
    }

    /// A route by a gateway and by the given link, marked as this program's.
    pub fn by_gateway(destination: IpNet, gateway: IpAddr, link: Option<u32>) -> Self {
        let (destination, gateway) = (destination.trunc(), Some(gateway));
        let next_hop = NextHop::Routed;
        Self { destination, link, gateway, next_hop, source: None, metric: None, protocol: PROTOCOL }
    }

    /// With a next hop that no other route leads to.
    #[must_use]
    pub fn on_link(self) -> Self {
        Self { next_hop: NextHop::OnLink, ..self }
    }

    /// With this preferred source.
    #[must_use]
    pub fn from_source(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        let header = payload.first_chunk::<HEADER>()?;
        let [family, prefix, _, _, table, protocol, _, kind, flags @ ..] = *header;
        let next_hop = if u32::from_ne_bytes(flags) & RTNH_F_ONLINK == 0 { NextHop::Routed } else { NextHop::OnLink };
        if kind != UNICAST {
            return None;
        }
        // Tables from 256 on stand in an attribute alone.
        let mut table = u32::from(table);
        let (mut to, mut link, mut gateway, mut source, mut metric) = (None, None, None, None, None);
        for (kind, value) in attributes(payload.get(HEADER..)?) {
            match kind {
                rta::DST => to = ip_of(value),
                rta::OIF => link = u32_of(value),
                rta::GATEWAY => gateway = ip_of(value),
                rta::PREFSRC => source = ip_of(value),
                rta::PRIORITY => metric = u32_of(value),
                rta::TABLE => table = u32_of(value)?,
                _ => {}
            }
        }
        let to = to.unwrap_or_else(|| unspecified(family));
        let destination = IpNet::new(to, prefix).ok()?;
        let route = Self { destination, link, gateway, next_hop, source, metric, protocol };
        (table == u32::from(MAIN_TABLE)).then_some(route)
    }
}

/// Adds the route; one to the same destination with the same metric is an error.
pub fn add(route: &Route) -> Request {
    message("add", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route)
}

/// Adds the route, in place of one to the same destination with the same metric.
pub fn replace(route: &Route) -> Request {
    message("set", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route)
}

/// Removes the route.
pub fn delete(route: &Route) -> Request {
    message("remove", RTM_DELROUTE, 0, route)
}

/// Puts back the connected routes of these addresses, which the link has had for a while, where another program removed them.
pub fn reconnect(routes: &[Route], addresses: &[IpNet], link: u32) -> Vec<Request> {
    let is_there = |net: IpNet| routes.iter().any(|route| route.link == Some(link) && route.destination == net);
    let missing = addresses.iter().filter(|net| !is_there(net.trunc()));
    missing.filter_map(|net| Route::connected(*net, link)).map(|route| replace(&route)).collect()
}

impl Rtnl {
    /// The unicast routes of the main table, both families.
    pub fn routes(&self) -> Result<Vec<Route>> {
        self.dump(list, Route::parse)
    }

    /// Those of them by which packets leave by this link. The kernel leaves the others out, of which there is one for each
    /// container that has an address on the overlay.
    pub fn routes_by(&self, link: u32) -> Result<Vec<Route>> {
        let request = || {
            let mut request = list();
            request.message().attribute_u32(rta::OIF, link);
            request
        };
        let mut routes = self.dump(request, Route::parse)?;
        // A kernel before 4.20 leaves nothing out.
        routes.retain(|route| route.link == Some(link));
        Ok(routes)
    }

    /// The way that a packet to `destination` takes from here; `None` where there is none.
    pub fn route_to(&self, destination: IpAddr) -> Result<Option<Route>> {
        match self.get(look_up(destination), Route::parse) {
            Ok(route) => Ok(Some(route)),
            Err(error) if is_nowhere(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Rtnl {
    /// Whether packets to this address are taken in here. For a new IPv6 address that is so a moment after it was added.
    pub fn is_own(&self, address: IpAddr) -> Result<bool> {
        const LOCAL: u8 = 2;
        let kind = |payload: &[u8]| payload.get(7).copied();
        match self.get(look_up(address), kind) {
            Ok(kind) => Ok(kind == LOCAL),
            Err(error) if is_nowhere(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_nowhere(error: &crate::Error) -> bool {
    matches!(error.errno(), Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NOENT))
}

fn look_up(destination: IpAddr) -> Request {
    let bits = if destination.is_ipv4() { 32 } else { 128 };
    let mut request = Request::new(format!("look up the route to {destination}"), RTM_GETROUTE, 0);
    request.message().append(&[family_of(destination), bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    request.message().attribute_ip(rta::DST, destination);
    request
}

fn list() -> Request {
    let mut request = Request::new("list routes".into(), RTM_GETROUTE, 0);
    request.message().append(&[0, 0, 0, 0, MAIN_TABLE, 0, 0, 0, 0, 0, 0, 0]);
    request
}

fn message(verb: &str, kind: u16, flags: u16, route: &Route) -> Request {
    let action = format!("{verb} route to {}", route.destination);
    let mut request = Request::new(action, kind, flags);
    let removing = kind == RTM_DELROUTE;
    let [a, b, c, d] = if route.next_hop == NextHop::OnLink { RTNH_F_ONLINK } else { 0 }.to_ne_bytes();
    let family = family_of(route.destination.addr());
    let (prefix, scope) = (route.destination.prefix_len(), scope(route, removing));
    let message = request.message();
    message.append(&[family, prefix, 0, 0, MAIN_TABLE, route.protocol, scope, UNICAST, a, b, c, d]);
    message.attribute_ip(rta::DST, route.destination.addr());
    if let Some(link) = route.link {
        message.attribute_u32(rta::OIF, link);
    }
    if let Some(gateway) = route.gateway {
        message.attribute_ip(rta::GATEWAY, gateway);
    }
    if let Some(source) = route.source {
        message.attribute_ip(rta::PREFSRC, source);
    }
    if let Some(metric) = route.metric {
        message.attribute_u32(rta::PRIORITY, metric);
    }
    request
}

fn scope(route: &Route, removing: bool) -> u8 {
    match (route.destination, route.gateway) {
        _ if removing => SCOPE_NOWHERE,
        (IpNet::V4(_), None) => SCOPE_LINK,
        _ => SCOPE_UNIVERSE,
    }
}

fn unspecified(family: u8) -> IpAddr {
    if family == 2 { std::net::Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() }
}
