use ipnet::IpNet;
use overlayd_core::{contract::DeviceMtu, names::InstanceId};
use overlayd_netlink::{Link, Result, Route, Rtnl, address, link, route};

/// WireGuard over IPv6 and UDP: 40 + 8 + 32 bytes.
const OVERHEAD: u32 = 80;
/// MTU over an ordinary Ethernet.
const USUAL_MTU: u32 = 1420;
/// Kind that the kernel gives a TUN interface.
const KIND: &str = "tun";
/// Kinds of interfaces that are tunnels, ours or somebody's, and so no underlay.
const TUNNEL_KINDS: [&str; 2] = [KIND, "wireguard"];
/// MTU of the loopback device, which is no underlay even with a routed address on it.
const LOOPBACK_MTU: u32 = 65_536;

/// The text on our interfaces (`ip link` shows it as alias).
pub(crate) fn mark(instance: &InstanceId) -> String {
    format!("overlayd:{instance}")
}

/// Whether the interface is a device of this instance.
pub(crate) fn is_ours(link: &Link, instance: &InstanceId) -> bool {
    link.is_kind(KIND) && link.alias.as_deref() == Some(&mark(instance))
}

/// Everything of the interface that is not a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LinkPlan<'a> {
    pub(crate) addresses: &'a [IpNet],
    pub(crate) routes: &'a [IpNet],
    pub(crate) mtu: u16,
}

/// Puts our mark on a new interface and keeps the kernel from giving it an address of its own.
pub(crate) fn adopt(rtnl: &Rtnl, index: u32, instance: &InstanceId) -> Result<()> {
    rtnl.run_all([link::change(index).alias(&mark(instance)).request(), link::change(index).no_link_local().request()])
}

/// Makes the interface be as planned, by the changes that it needs.
pub(crate) fn configure(rtnl: &Rtnl, link: &Link, plan: &LinkPlan<'_>) -> Result<()> {
    let mut requests = Vec::new();
    if link.mtu != u32::from(plan.mtu) {
        requests.push(link::change(link.index).mtu(plan.mtu.into()).request());
    }
    if !link.up {
        requests.push(link::up(link.index));
    }
    rtnl.run_all(requests)?;
    rtnl.run_all(address_changes(&addresses(rtnl, link.index)?, plan.addresses, link.index))?;
    rtnl.run_all(route_changes(rtnl, plan, link.index)?)
}

/// Addresses of the interface, without those that the kernel gave it.
pub(crate) fn addresses(rtnl: &Rtnl, index: u32) -> Result<Vec<IpNet>> {
    let link_scope = |net: &IpNet| matches!(net, IpNet::V6(v6) if v6.addr().is_unicast_link_local());
    Ok(rtnl.addresses(index)?.into_iter().map(|address| address.net).filter(|net| !link_scope(net)).collect())
}

fn address_changes(present: &[IpNet], wanted: &[IpNet], index: u32) -> Vec<overlayd_netlink::Request> {
    let missing = wanted.iter().filter(|net| !present.contains(net)).map(|net| address::ensure(index, *net));
    let surplus = present.iter().filter(|net| !wanted.contains(net)).map(|net| address::delete(index, *net));
    surplus.chain(missing).collect()
}

/// Routes are added and never put in another's place: one that somebody else has to the same range is an error.
fn route_changes(rtnl: &Rtnl, plan: &LinkPlan<'_>, index: u32) -> Result<Vec<overlayd_netlink::Request>> {
    let connected = |net: &IpNet| plan.addresses.iter().any(|address| address.trunc() == *net);
    let wanted: Vec<IpNet> = plan.routes.iter().map(IpNet::trunc).filter(|net| !connected(net)).collect();
    let ours = |route: &Route| route.link == Some(index) && route.protocol == route::PROTOCOL;
    let present: Vec<Route> = rtnl.routes()?.into_iter().filter(ours).collect();
    let surplus = present.iter().filter(|route| !wanted.contains(&route.destination)).map(route::delete);
    let missing = wanted.iter().filter(|net| !present.iter().any(|route| route.destination == **net));
    let missing = missing.map(|net| route::add(&Route::by_link(*net, index)));
    Ok(surplus.chain(missing).collect())
}

/// The MTU in bytes that the plan asks for.
pub(crate) fn mtu(rtnl: &Rtnl, wanted: DeviceMtu) -> Result<u16> {
    match wanted {
        DeviceMtu::Bytes(bytes) => Ok(bytes),
        DeviceMtu::FromUnderlay => {
            let narrowest = underlay(rtnl)?.into_iter().map(|link| link.mtu).min();
            let mtu = narrowest.map_or(USUAL_MTU, |mtu| mtu.saturating_sub(OVERHEAD).min(USUAL_MTU));
            Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
        }
    }
}

/// Interfaces that peers may be reached by: up, with an address that is routed beyond the link, and neither ours nor a
/// tunnel.
fn underlay(rtnl: &Rtnl) -> Result<Vec<Link>> {
    let addresses = rtnl.all_addresses()?;
    let routed = |link: &Link| addresses.iter().any(|address| address.link == link.index && address.scope == 0);
    let tunnel = |link: &Link| TUNNEL_KINDS.iter().any(|kind| link.is_kind(kind));
    let marked = |link: &Link| link.alias.as_deref().is_some_and(|alias| alias.starts_with("overlayd:"));
    Ok(rtnl
        .links()?
        .into_iter()
        .filter(|link| link.up && routed(link) && !tunnel(link) && !marked(link) && link.mtu < LOOPBACK_MTU)
        .collect())
}
