//! The interface of a WireGuard device, whoever moves its packets: our mark, its addresses and routes, its MTU.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::{Address, Link, Request, Result, Route, Rtnl, address, link, route};

/// WireGuard over IPv6 and UDP: 40 + 8 + 32 bytes.
const OVERHEAD: u32 = 80;
/// MTU over an ordinary Ethernet.
const USUAL_MTU: u32 = 1420;
/// Kinds of interfaces that are tunnels, ours or somebody's, and so no underlay.
const TUNNEL_KINDS: [&str; 2] = ["tun", "wireguard"];
/// MTU of the loopback device, which is no underlay even with a routed address on it.
const LOOPBACK_MTU: u32 = 65_536;
/// How the alias of every interface of ours begins, whichever instance made it.
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
pub fn adopt<'a>(link: impl Into<link::By<'a>>, instance: &str) -> [Request; 2] {
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
/// reached, less the overhead, at most 1420. Where one of `own` is held, inside the overlay, nobody is asked.
pub fn underlay_mtu(rtnl: &Rtnl, own: &[IpNet]) -> Result<u16> {
    let narrowest = underlay(rtnl, own)?.into_iter().map(|link| link.mtu).min();
    let mtu = narrowest.map_or(USUAL_MTU, |mtu| mtu.saturating_sub(OVERHEAD).min(USUAL_MTU));
    Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
}

fn address_changes(present: &[IpNet], wanted: &[IpNet], index: u32) -> Vec<Request> {
    let missing = wanted.iter().filter(|net| !present.contains(net)).map(|net| address::ensure(index, *net));
    let surplus = present.iter().filter(|net| !wanted.contains(net)).map(|net| address::delete(index, *net));
    surplus.chain(missing).collect()
}

/// Routes are added and never put in another's place: one that somebody else has to the same range is an error.
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
