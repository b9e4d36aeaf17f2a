//! Plugging a container in.

use std::{net::IpAddr, os::fd::OwnedFd};

use overlayd_core::contract::{self, AttachPlan, Attached, AttachmentId, Error, Result, TargetIdentity};
use overlayd_netlink::{Link, Request, Visitor, link};

use crate::{
    forwarding::{self},
    host::HostContext,
    inside::{self, InnerState},
    interfaces::{ContainerInterface, Uplink, interfaces_of},
    mark::{LinkMark, LinkOwner},
    rules::items_of,
    target::OpenTarget,
    veth::{HostSide, VethPlan},
};

/// Plugs the container in as planned, or leaves nothing behind. Returns its process too, where it is known by one.
pub(crate) fn attach(
    visitor: &mut Visitor,
    host: &HostContext,
    plan: &AttachPlan,
) -> Result<(Attached, Option<OwnedFd>)> {
    check(plan)?;
    if let contract::Target::Address(address) = plan.target {
        return Ok((surround(host, plan, address)?, None));
    }
    let target = OpenTarget::open(&plan.target, host.rtnl.netns().id(), &host.boot)?;
    if plan.known.as_ref().is_some_and(|known| *known != target.identity) {
        return Err(Error::TargetChanged(format!("{} is another container than the one attached", plan.id)));
    }
    let owner = LinkOwner { id: plan.id.clone(), start: target.start(), netns: target.netns.id().inode };
    let alias = host.marks.attachment(&owner).ok_or_else(|| id_too_long(&plan.id))?;
    let interfaces = interfaces_of(plan)?;
    let bridges = interfaces.iter().map(|interface| bridge_of(host, interface)).collect::<Result<Vec<_>>>()?;
    let leg = |(interface, bridge): (_, &Option<Link>)| {
        VethPlan::new(interface, &alias, bridge.as_ref().map(|bridge| bridge.index), &host.marks)
    };
    let legs: Vec<VethPlan<'_>> = interfaces.iter().zip(&bridges).map(leg).collect();
    if is_attached(visitor, host, &target, &legs)? {
        let items = items_of(plan, &interfaces, &host.marks)?;
        let held = host.rules().hold(&plan.id, items);
        held.inspect_err(|_| unplug_unfenced(host, &plan.id, &legs))?;
        let_back(host, plan, &interfaces)?;
    } else {
        let items = items_of(plan, &interfaces, &host.marks)?;
        // The fence first: the container's interfaces may send from the moment in which they are there.
        host.rules().hold(&plan.id, items)?;
        let made = make(visitor, host, &target, &legs).and_then(|()| let_back(host, plan, &interfaces));
        made.inspect_err(|_| undo(host, &plan.id, &legs))?;
        // A bridge without ports that work is connected by its first one.
        let waking = bridges.iter().flatten().filter(|bridge| !bridge.is_operational());
        waking.map(|bridge| bridge.index).try_for_each(|bridge| await_carrier(host, bridge))?;
        tracing::debug!(container = %plan.id, interfaces = legs.len(), "attached a container");
    }
    let attached = Attached { identity: target.identity.clone(), namespace: None };
    Ok((attached, target.into_process()))
}

/// Lets a container that has ports of the host reach them itself, where bridged packets come by the host's rules: they then
/// go back by the bridge port that they came in by. A port that may do so once stays as it is; the rules let nothing else
/// back.
fn let_back(shared: &HostContext, plan: &AttachPlan, interfaces: &[ContainerInterface]) -> Result<()> {
    let bridged = |interface: &&ContainerInterface| matches!(interface.uplink, Uplink::Network(_));
    for interface in interfaces.iter().filter(bridged).filter(|_| !plan.ports.is_empty()) {
        if let Some(link) = shared.link(interface.host_name.as_str())? {
            shared.rtnl.run(link::change(link.index).hairpin().request())?;
        }
    }
    Ok(())
}

/// Puts a fence around an address that is not in a container of ours, and has the ports lead to it.
fn surround(host: &HostContext, plan: &AttachPlan, address: IpAddr) -> Result<Attached> {
    let identity = TargetIdentity(address.to_string());
    if plan.known.as_ref().is_some_and(|known| *known != identity) {
        return Err(Error::TargetChanged(format!("{} had another address than {address}", plan.id)));
    }
    host.rules().hold(&plan.id, items_of(plan, &[], &host.marks)?)?;
    Ok(Attached { identity, namespace: None })
}

/// Whether the container is plugged in as planned already. Where it is so but for some of it, all of ours under these
/// names is cleared away.
fn is_attached(visitor: &mut Visitor, host: &HostContext, target: &OpenTarget, legs: &[VethPlan<'_>]) -> Result<bool> {
    let found = legs.iter().map(|leg| leftover(host, leg)).collect::<Result<Vec<_>>>()?;
    let pairs: Vec<(&VethPlan<'_>, &Link)> =
        legs.iter().zip(&found).filter_map(|(leg, link)| Some((leg, link.as_ref()?))).collect();
    let outside = pairs.len() == legs.len() && pairs.iter().all(|(leg, link)| leg.is_outside(link));
    if outside && inside::compare(visitor, target, &pairs)?.iter().all(|inner| *inner == InnerState::AsPlanned) {
        pairs.iter().try_for_each(|(leg, link)| finish(host, leg, link))?;
        return Ok(true);
    }
    pairs.iter().try_for_each(|(_, link)| host.delete(link.index))?;
    Ok(false)
}

/// What bears the name of the host's end already: nothing, or a link of ours that may be kept or replaced.
fn leftover(host: &HostContext, leg: &VethPlan<'_>) -> Result<Option<Link>> {
    let name = leg.plan.host_name.as_str();
    let Some(link) = host.link(name)? else { return Ok(None) };
    if host.marks.is_reaped(&link) {
        host.reaper.finish()?;
        return host.link(name);
    }
    let ours = matches!(host.marks.read(&link), Some(LinkMark::Attachment(_))) || host.marks.is_half_made(&link);
    if ours { Ok(Some(link)) } else { Err(host.taken(&link)) }
}

fn make(visitor: &mut Visitor, shared: &HostContext, target: &OpenTarget, legs: &[VethPlan<'_>]) -> Result<()> {
    for leg in legs {
        let creation = leg.creation(&target.netns, shared.marks.live_group());
        shared.rtnl.run(creation).map_err(|error| match error.is_present() {
            // The host's end is known to be free.
            true => {
                Error::Conflict { what: format!("{} in {target}", leg.plan.name), by: "the container itself".into() }
            }
            false => error.into(),
        })?;
    }
    let outer = inside::configure(visitor, target, legs)?;
    let gone = |error: overlayd_netlink::Error| match error.is_absent() {
        true => Error::TargetGone(format!("{target} ended, and its interfaces with it")),
        false => error.into(),
    };
    for (leg, index) in legs.iter().zip(&outer) {
        complete(shared, leg, *index, Vec::new())?.map_err(gone)?;
    }
    target.check_alive()?;
    outer.iter().try_for_each(|index| await_carrier(shared, *index))
}

/// Waits until the kernel has noticed that both ends of an interface, or a bridge, are connected, some tenth of a
/// millisecond after they were. Until then they drop packets, and a container whose first one is lost waits a second.
fn await_carrier(shared: &HostContext, index: u32) -> Result<()> {
    for _ in 0..inside::LOOKS {
        let Some(link) = shared.rtnl.link(index)? else { return Ok(()) };
        let other = shared.rtnl.other_end(&link)?;
        if link.is_operational() && other.is_none_or(|link| link.is_operational()) {
            // The kernel says so a moment before it is, inside a lock that this request, which changes nothing, awaits.
            return Ok(shared.rtnl.run(link::change(index).request())?);
        }
        std::thread::sleep(inside::PAUSE);
    }
    tracing::debug!(interface = index, "the kernel is slow to notice that an interface is connected");
    Ok(())
}

/// Completes the host's end that is there already.
fn finish(shared: &HostContext, leg: &VethPlan<'_>, link: &Link) -> Result<()> {
    let mut also = Vec::new();
    if let HostSide::Bridge(bridge) = leg.home
        && link.master != Some(bridge)
    {
        also.push(link::change(link.index).master(bridge).request());
    }
    if link.mtu != u32::from(leg.plan.mtu) {
        also.push(link::change(link.index).mtu(leg.plan.mtu.into()).request());
    }
    Ok(complete(shared, leg, link.index, also)??)
}

fn complete(
    shared: &HostContext,
    leg: &VethPlan<'_>,
    index: u32,
    also: Vec<Request>,
) -> Result<overlayd_netlink::Result<()>> {
    if matches!(leg.plan.uplink, Uplink::Routed { .. }) && leg.plan.address.addr().is_ipv6() {
        forwarding::pass_from_leg(shared.rtnl.netns(), leg.plan.host_name.as_str())?;
    }
    Ok(shared.rtnl.run_all(also.into_iter().chain(leg.outside(index))))
}

/// Unplugs a container whose fence is gone and was not to be put up again. The pass that can plugs it in again.
fn unplug_unfenced(host: &HostContext, id: &AttachmentId, legs: &[VethPlan<'_>]) {
    let standing = host.rules().standing();
    match standing {
        Ok(standing) if standing.contains(id) => {}
        Ok(_) => {
            tracing::error!(container = %id, "unplugged: its fence is gone, and cannot be put up at the moment");
            unplug(host, legs);
        }
        Err(error) => tracing::warn!(container = %id, %error, "whether its fence stands is not to be seen"),
    }
}

/// Takes away what a failed attach made.
fn undo(host: &HostContext, id: &AttachmentId, legs: &[VethPlan<'_>]) {
    unplug(host, legs);
    if let Err(error) = host.rules().release(id) {
        tracing::warn!(container = %id, %error, "the rules of a failed attach are not undone");
    }
}

fn unplug(host: &HostContext, legs: &[VethPlan<'_>]) {
    for leg in legs {
        let removed = leftover(host, leg).and_then(|link| link.map_or(Ok(()), |link| host.delete(link.index)));
        if let Err(error) = removed {
            tracing::warn!(interface = %leg.plan.host_name, %error, "could not be taken away");
        }
    }
}

/// The bridge that the interface joins, where it joins one.
fn bridge_of(host: &HostContext, interface: &ContainerInterface) -> Result<Option<Link>> {
    let Uplink::Network(network) = &interface.uplink else { return Ok(None) };
    host.bridge(&network.0)?.map(Some).ok_or_else(|| Error::NotFound(format!("network {network}")))
}

fn check(plan: &AttachPlan) -> Result<()> {
    let fits = match plan.id {
        AttachmentId::Process(_) | AttachmentId::Namespace(_) => !matches!(plan.target, contract::Target::Address(_)),
        AttachmentId::Guest(_) | AttachmentId::Host(_) | AttachmentId::Edge(_) => {
            matches!(plan.target, contract::Target::Address(_))
        }
        AttachmentId::Compute(_) | AttachmentId::ComputeNamespace(_) => false,
    };
    if !fits {
        return Err(unsupported(plan, "containers are named by process or network namespace here"));
    }
    let needs_none = matches!(plan.target, contract::Target::Address(_));
    if (plan.service.is_none() && plan.overlay.is_none()) != needs_none {
        return Err(Error::Invalid(format!("{} is to get no interface, or one for a mere address", plan.id)));
    }
    if plan.overlay.as_ref().is_some_and(|leg| leg.source.is_ipv4() != leg.address.is_ipv4()) {
        return Err(Error::Invalid(format!("the overlay leg of {} mixes IPv4 and IPv6", plan.id)));
    }
    Ok(())
}

fn unsupported(plan: &AttachPlan, reason: &str) -> Error {
    Error::Unsupported { what: format!("attaching {}", plan.id), reason: reason.into() }
}

fn id_too_long(id: &AttachmentId) -> Error {
    Error::Invalid(format!("{id}: an id of at most 128 bytes is needed"))
}
