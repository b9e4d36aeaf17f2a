//! The interface of a WireGuard device in the kernel or in user space: our mark, its addresses and routes, its MTU, and
//! what must hold before it is made.

use std::collections::BTreeSet;

use ipnet::IpNet;

use overlayd_core::contract::{self, DeviceMtu};

use crate::{
    Address, Link, Request, Result, Route, Rtnl, address, link,
    overlap::{self, CutOff},
    route,
};

/// Smallest MTU of an IPv4 interface (RFC 791).
const LEAST_MTU: u16 = 68;

/// WireGuard over IPv6 and UDP: 40 + 8 + 32 bytes.
const OVERHEAD: u32 = 80;
/// MTU over an ordinary Ethernet.
const USUAL_MTU: u32 = 1420;
/// Kinds of interfaces that are tunnels, and so no underlay.
const TUNNEL_KINDS: [&str; 2] = ["tun", "wireguard"];
/// MTU of the loopback device, which is no underlay even with a routed address on it.
const LOOPBACK_MTU: u32 = 65_536;
/// How the alias of every interface of this program begins, in all instances.
const MARK: &str = "overlayd:";

/// Everything of the interface that is not a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkPlan<'a> {
    /// Own addresses with their on-link prefix.
    pub addresses: &'a [IpNet],
    /// Further ranges routed into the device.
    pub routes: &'a [IpNet],
    /// Largest packet in bytes.
    pub mtu: u16,
}

/// The text on the interfaces of this instance (`ip link` shows it as alias).
pub fn mark(instance: &str) -> String {
    format!("{MARK}{instance}")
}

/// Whether the interface is of this kind and carries the mark of this instance.
pub fn is_ours(link: &Link, kind: &str, instance: &str) -> bool {
    link.is_kind(kind) && link.alias.as_deref() == Some(&mark(instance))
}

/// Requests that put the mark on a new interface and keep the kernel from giving it an address of its own.
pub fn adopt<'a>(link: impl Into<link::LinkRef<'a>>, instance: &str) -> [Request; 2] {
    let link = link.into();
    [link::change(link).alias(&mark(instance)).request(), link::change(link).no_link_local().request()]
}

/// Makes the interface be as planned, by the changes that it needs.
pub fn configure(rtnl: &Rtnl, link: &Link, plan: &LinkPlan<'_>) -> Result<()> {
    let mut requests = Vec::new();
    if link.mtu != u32::from(plan.mtu) {
        requests.push(link::change(link.index).mtu(plan.mtu.into()).request());
    }
    if !link.up {
        requests.push(link::up(link.index));
    }
    rtnl.run_all(requests)?;
    let present = addresses(rtnl, link.index)?;
    rtnl.run_all(address_changes(&present, plan.addresses, link.index))?;
    let routes = rtnl.routes_by(link.index)?;
    let kept: Vec<IpNet> = present.into_iter().filter(|net| link.up && plan.addresses.contains(net)).collect();
    rtnl.run_all(route::reconnect(&routes, &kept, link.index))?;
    rtnl.run_all(route_changes(routes, plan, link.index))
}

/// Addresses of the interface, without those that the kernel gave it.
pub fn addresses(rtnl: &Rtnl, index: u32) -> Result<Vec<IpNet>> {
    let link_scope = |net: &IpNet| matches!(net, IpNet::V6(v6) if v6.addr().is_unicast_link_local());
    Ok(rtnl.addresses(index)?.into_iter().map(|address| address.net).filter(|net| !link_scope(net)).collect())
}

/// The MTU in bytes that the underlay leaves for packets inside: that of the narrowest interface by which peers may be
/// reached, less the overhead, at most 1420. An interface that holds one of `own` is inside the overlay and does not count.
pub fn underlay_mtu(rtnl: &Rtnl, own: &[IpNet]) -> Result<u16> {
    let narrowest = underlay(rtnl, own)?.into_iter().map(|link| link.mtu).min();
    let mtu = narrowest.map_or(USUAL_MTU, |mtu| mtu.saturating_sub(OVERHEAD).min(USUAL_MTU));
    Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
}

/// The MTU in bytes that a plan asks for, of a device with these addresses. An error where IPv4 could not work with it.
pub fn mtu(rtnl: &Rtnl, wanted: DeviceMtu, addresses: &[IpNet]) -> contract::Result<u16> {
    match wanted {
        DeviceMtu::Bytes(mtu) if mtu < LEAST_MTU => {
            let reason = format!("an MTU of {mtu} is less than the {LEAST_MTU} bytes that IPv4 needs");
            Err(contract::Error::Invalid(reason))
        }
        DeviceMtu::Bytes(mtu) => Ok(mtu),
        DeviceMtu::FromUnderlay => Ok(underlay_mtu(rtnl, addresses)?),
    }
}

/// Refuses ranges whose routes into the device would cut this host off from its own network.
pub fn check_overlaps(rtnl: &Rtnl, device: &str, addresses: &[IpNet], routes: &[IpNet]) -> contract::Result<()> {
    let ranges: Vec<IpNet> = addresses.iter().chain(routes).copied().collect();
    match overlap::check(rtnl, device, &ranges)? {
        None => Ok(()),
        Some(CutOff { what, by }) => Err(contract::Error::Conflict { what, by }),
    }
}

/// The error where another interface has the name of the device.
pub fn name_taken(found: &Link) -> contract::Error {
    let by = match found.alias.as_deref() {
        Some(alias) => format!("an interface marked `{alias}`"),
        None => "an interface that is not ours".to_owned(),
    };
    contract::Error::Conflict { what: format!("interface {}", found.name), by }
}

/// The error where another socket has the UDP port of the device.
pub fn port_taken(port: u16) -> contract::Error {
    contract::Error::Conflict { what: format!("UDP port {port}"), by: "another socket of this host".to_owned() }
}

fn address_changes(present: &[IpNet], wanted: &[IpNet], index: u32) -> Vec<Request> {
    let missing = wanted.iter().filter(|net| !present.contains(net)).map(|net| address::ensure(index, *net));
    let surplus = present.iter().filter(|net| !wanted.contains(net)).map(|net| address::delete(index, *net));
    surplus.chain(missing).collect()
}

/// Routes are added and never put in another's place: one of another program to the same range is an error.
fn route_changes(routes: Vec<Route>, plan: &LinkPlan<'_>, index: u32) -> Vec<Request> {
    let connected = |net: &IpNet| plan.addresses.iter().any(|address| address.trunc() == *net);
    let wanted: Vec<IpNet> = plan.routes.iter().map(IpNet::trunc).filter(|net| !connected(net)).collect();
    let ours = |route: &Route| route.link == Some(index) && route.protocol == route::PROTOCOL;
    let present: Vec<Route> = routes.into_iter().filter(ours).collect();
    let surplus = present.iter().filter(|route| !wanted.contains(&route.destination)).map(route::delete);
    let missing = wanted.iter().filter(|net| !present.iter().any(|route| route.destination == **net));
    let missing = missing.map(|net| route::add(&Route::by_link(*net, index)));
    surplus.chain(missing).collect()
}

/// Interfaces that peers may be reached by: up, with an address that is routed beyond the link, and neither ours nor a
/// tunnel. Links are looked up one by one: most of them are containers', which have no address on the host, or one of `own`.
fn underlay(rtnl: &Rtnl, own: &[IpNet]) -> Result<Vec<Link>> {
    let addresses = rtnl.all_addresses()?;
    let inside = |address: &Address| own.iter().any(|own| own.addr() == address.net.addr());
    let routed = addresses.iter().filter(|address| address.is_global() && !inside(address));
    let routed: BTreeSet<u32> = routed.map(|address| address.link).collect();
    let tunnel = |link: &Link| TUNNEL_KINDS.iter().any(|kind| link.is_kind(kind));
    let marked = |link: &Link| link.alias.as_deref().is_some_and(|alias| alias.starts_with(MARK));
    let mut links = Vec::new();
    for index in routed {
        links.extend(rtnl.link(index)?);
    }
    links.retain(|link| link.up && !tunnel(link) && !marked(link) && link.mtu < LOOPBACK_MTU);
    Ok(links)
}
