//! Work inside a container's network namespace: one visit by one thread for all interfaces of an attachment.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use overlayd_core::contract::{Error, Result};
use overlayd_netlink::{Link, OrAbsent, Rtnl, Visitor, link, sysctl};

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
pub(crate) fn configure(visitor: &mut Visitor, target: &OpenTarget, legs: &[VethPlan<'_>]) -> Result<Vec<u32>> {
    let among = if legs.len() > 1 { LinkCount::Several } else { LinkCount::Single };
    let work = || -> Result<Vec<u32>> {
        let rtnl = target.netns.try_clone().and_then(Rtnl::visiting)?;
        let mut requests = vec![link::up("lo")];
        let mut outer = Vec::with_capacity(legs.len());
        for leg in legs {
            let name = leg.plan.name.as_str();
            let lost = || Error::TargetGone(format!("{target} lost {name}"));
            let link = rtnl.link(name)?.ok_or_else(lost)?;
            outer.push(link.peer.ok_or_else(lost)?);
            settle_ipv6(name, leg.plan.address)?;
            requests.extend(leg.inside(link.index, among));
        }
        let done = rtnl.run_all(requests);
        done.map_err(|error| if error.is_present() { in_the_way(target, error) } else { error.into() })?;
        legs.iter().try_for_each(|leg| await_address(&rtnl, leg.plan.address.addr()))?;
        Ok(outer)
    };
    visitor.inside(&target.netns, work)?
}

/// Looks whether the inner ends are as planned. Where only the MTU differs, that is put right.
pub(crate) fn compare(
    visitor: &mut Visitor,
    target: &OpenTarget,
    legs: &[(&VethPlan<'_>, &Link)],
) -> Result<Vec<InnerState>> {
    let work = || -> Result<Vec<InnerState>> {
        let rtnl = target.netns.try_clone().and_then(Rtnl::visiting)?;
        let routes = rtnl.routes()?;
        legs.iter()
            .map(|(leg, outer)| {
                let Some(link) = rtnl.link(leg.plan.name.as_str())? else {
                    return Ok(InnerState::Different);
                };
                let addresses = rtnl.addresses(link.index)?;
                let routed = leg.routes(link.index).iter().all(|planned| {
                    routes.iter().any(|have| (have.destination, have.gateway) == (planned.destination, planned.gateway))
                });
                let has_address = addresses.iter().any(|address| address.net == leg.plan.address);
                if link.peer != Some(outer.index) || !link.up || !has_address || !routed {
                    return Ok(InnerState::Different);
                }
                if link.mtu != u32::from(leg.plan.mtu) {
                    rtnl.run(link::change(link.index).mtu(leg.plan.mtu.into()).request())?;
                }
                Ok(InnerState::AsPlanned)
            })
            .collect()
    };
    visitor.inside(&target.netns, work)?
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
