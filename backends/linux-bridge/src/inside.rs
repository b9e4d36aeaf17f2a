//! Work inside a container's network namespace: one visit by one thread for all interfaces of an attachment.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use overlayd_core::contract::{Error, Result};
use overlayd_netlink::{Link, NetnsWorker, OrAbsent, Route, Rtnl, link, sysctl};

use crate::{
    target::OpenTarget,
    veth::{LinkCount, VethPlan},
};

/// How often, and how long apart, to look whether the kernel has finished what it does in the background.
pub(crate) const LOOKS: usize = 1000;
pub(crate) const PAUSE: Duration = Duration::from_micros(50);

/// How an inner end compares with the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InnerState {
    /// It is as planned, or was made so by nothing more than another MTU.
    AsPlanned,
    /// It is missing or different.
    Different,
}

/// Makes the inner ends usable: addresses, routes, up. Nothing of the container's own is replaced. Returns the indexes
/// of their other ends, on the host.
pub(crate) fn configure(worker: &mut NetnsWorker, target: &OpenTarget, veths: &[VethPlan<'_>]) -> Result<Vec<u32>> {
    worker.inside(&target.netns, || configure_here(target, veths))?
}

fn configure_here(target: &OpenTarget, veths: &[VethPlan<'_>]) -> Result<Vec<u32>> {
    let count = if veths.len() > 1 { LinkCount::Several } else { LinkCount::Single };
    let rtnl = target.netns.try_clone().and_then(Rtnl::visiting)?;
    let mut requests = vec![link::up("lo")];
    let mut outer = Vec::with_capacity(veths.len());
    for veth in veths {
        let name = veth.plan.name.as_str();
        let link = rtnl.link(name)?.ok_or_else(|| lost(target, name))?;
        outer.push(link.peer.ok_or_else(|| lost(target, name))?);
        // Before the address is added: the kernel refuses IPv6 addresses while `disable_ipv6` is set.
        settle_ipv6(name, veth.plan.address)?;
        requests.extend(veth.inside(link.index, count));
    }
    // One datagram for all interfaces. Each request waits for the RTNL lock by itself.
    let done = rtnl.run_all(requests);
    done.map_err(|error| if error.is_present() { in_the_way(target, error) } else { error.into() })?;
    veths.iter().try_for_each(|veth| await_address(&rtnl, veth.plan.address.addr()))?;
    Ok(outer)
}

/// Looks whether the inner ends are as planned. If only the MTU differs, it is corrected.
pub(crate) fn compare(
    worker: &mut NetnsWorker,
    target: &OpenTarget,
    veths: &[(&VethPlan<'_>, &Link)],
) -> Result<Vec<InnerState>> {
    worker.inside(&target.netns, || compare_here(target, veths))?
}

fn compare_here(target: &OpenTarget, veths: &[(&VethPlan<'_>, &Link)]) -> Result<Vec<InnerState>> {
    let rtnl = target.netns.try_clone().and_then(Rtnl::visiting)?;
    let routes = rtnl.routes()?;
    veths.iter().map(|(veth, outer)| compare_one(&rtnl, &routes, veth, outer)).collect()
}

fn compare_one(rtnl: &Rtnl, routes: &[Route], veth: &VethPlan<'_>, outer: &Link) -> Result<InnerState> {
    let Some(link) = rtnl.link(veth.plan.name.as_str())? else { return Ok(InnerState::Different) };
    let addresses = rtnl.addresses(link.index)?;
    let has_address = addresses.iter().any(|address| address.net == veth.plan.address);
    // The gateway tells routes apart. Metric and protocol are the kernel's choice and may differ.
    let has_routes = veth.routes(link.index).iter().all(|planned| {
        routes.iter().any(|have| (have.destination, have.gateway) == (planned.destination, planned.gateway))
    });
    if link.peer != Some(outer.index) || !link.up || !has_address || !has_routes {
        return Ok(InnerState::Different);
    }
    if link.mtu != u32::from(veth.plan.mtu) {
        rtnl.run(link::change(link.index).mtu(veth.plan.mtu.into()).request())?;
    }
    Ok(InnerState::AsPlanned)
}

fn lost(target: &OpenTarget, name: &str) -> Error {
    Error::TargetGone(format!("{target} lost {name}"))
}

/// Waits until the container takes in packets to its address: the kernel does the last step for IPv6 a moment later, and
/// without it the answers to the container's first packets are lost.
fn await_address(rtnl: &Rtnl, address: IpAddr) -> Result<()> {
    for _ in 0..LOOKS {
        if address.is_ipv4() || rtnl.is_own(address)? {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    tracing::debug!(%address, "the kernel is slow to take a new address into service");
    Ok(())
}

/// Allows IPv6 where the container is to have an address of it, and keeps it from routes by router advertisements.
///
/// Elsewhere nothing is written: the kernel looks such a setting up among those of all namespaces in which one was looked up
/// before, and the rules drop the advertisements of other containers anyway.
fn settle_ipv6(name: &str, address: IpNet) -> Result<()> {
    if address.addr().is_ipv4() {
        return Ok(());
    }
    ["accept_ra", "disable_ipv6"].into_iter().try_for_each(|setting| {
        let path = format!("ipv6/conf/{name}/{setting}");
        sysctl::write_here(&path, "0").or_absent()?;
        Ok(())
    })
}

fn in_the_way(target: &OpenTarget, error: overlayd_netlink::Error) -> Error {
    let (action, _) = error.into_parts();
    Error::Conflict { what: format!("what an attach of {target} needs ({action})"), by: "the container itself".into() }
}
