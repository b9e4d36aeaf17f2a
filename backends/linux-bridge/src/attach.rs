//! Plugging a container in.

use std::{net::IpAddr, os::fd::OwnedFd};

use overlayd_core::contract::{self, AttachPlan, Attached, AttachmentId, Error, Result, TargetIdentity};
use overlayd_netlink::{Link, NetnsWorker, Request, link};

use crate::{
    forwarding,
    host::HostContext,
    inside::{self, InnerState},
    interfaces::{ContainerInterface, Uplink, interfaces_of},
    mark::{LinkMark, LinkOwner},
    rules::items_of,
    target::OpenTarget,
    veth::{HostSide, VethPlan},
};

/// Plugs the container in as planned, or leaves nothing behind. Returns its process as well, where it is known by one.
pub(crate) fn attach(
    worker: &mut NetnsWorker,
    host: &HostContext,
    plan: &AttachPlan,
) -> Result<(Attached, Option<OwnedFd>)> {
    check(plan)?;
    if let contract::Target::Address(address) = plan.target {
        return Ok((attach_address(host, plan, address)?, None));
    }
    let target = open_target(host, plan)?;
    let alias = alias_of(host, plan, &target)?;
    let interfaces = interfaces_of(plan)?;
    let bridges = bridges_of(host, &interfaces)?;
    let veths = veth_plans(host, &interfaces, &bridges, &alias);
    let items = items_of(plan, &interfaces, &host.marks)?;
    if is_attached(worker, host, &target, &veths)? {
        let held = host.rules().hold(&plan.id, items);
        held.inspect_err(|_| unplug_unfenced(host, &plan.id, &veths))?;
        allow_hairpin(host, plan, &interfaces)?;
    } else {
        // The fence stands first: the container can send from the moment in which its interfaces exist.
        host.rules().hold(&plan.id, items)?;
        let created = create(worker, host, &target, &veths).and_then(|()| allow_hairpin(host, plan, &interfaces));
        created.inspect_err(|_| undo(host, &plan.id, &veths))?;
        await_bridges(host, &bridges)?;
        tracing::debug!(container = %plan.id, interfaces = veths.len(), "attached a container");
    }
    let attached = Attached { identity: target.identity.clone(), namespace: None };
    Ok((attached, target.into_process()))
}

/// Opens the container, which must be the one that was attached under this id before, if one was.
fn open_target(host: &HostContext, plan: &AttachPlan) -> Result<OpenTarget> {
    let target = OpenTarget::open(&plan.target, host.rtnl.netns().id(), &host.boot)?;
    match &plan.known {
        Some(known) if *known != target.identity => {
            Err(Error::TargetChanged(format!("{} is another container than the one attached", plan.id)))
        }
        _ => Ok(target),
    }
}

/// The alias by which a later run recognises the container's interfaces.
fn alias_of(host: &HostContext, plan: &AttachPlan, target: &OpenTarget) -> Result<String> {
    let owner = LinkOwner { id: plan.id.clone(), start: target.start(), netns: target.netns.id().inode };
    host.marks.attachment(&owner).ok_or_else(|| id_too_long(&plan.id))
}

/// The bridge of each interface, in their order; `None` for a routed one.
fn bridges_of(host: &HostContext, interfaces: &[ContainerInterface]) -> Result<Vec<Option<Link>>> {
    interfaces.iter().map(|interface| bridge_of(host, interface)).collect()
}

fn veth_plans<'a>(
    host: &HostContext,
    interfaces: &'a [ContainerInterface],
    bridges: &[Option<Link>],
    alias: &'a str,
) -> Vec<VethPlan<'a>> {
    let pairs = interfaces.iter().zip(bridges);
    pairs
        .map(|(interface, bridge)| {
            VethPlan::new(interface, alias, bridge.as_ref().map(|bridge| bridge.index), &host.marks)
        })
        .collect()
}

/// Lets a container that publishes ports reach them itself. Where `br_netfilter` passes bridged packets through the host's
/// rules, such a packet is translated on the bridge and has to leave by the port it came in by, which a bridge refuses
/// without hairpin mode. The rules of the bridge let nothing else back, so the mode may stay on.
fn allow_hairpin(host: &HostContext, plan: &AttachPlan, interfaces: &[ContainerInterface]) -> Result<()> {
    if plan.ports.is_empty() {
        return Ok(());
    }
    for interface in interfaces {
        if matches!(interface.uplink, Uplink::Routed { .. }) {
            continue;
        }
        if let Some(link) = host.link(interface.host_name.as_str())? {
            host.rtnl.run(link::change(link.index).hairpin().request())?;
        }
    }
    Ok(())
}

/// Puts a fence around an address that is in no container of this host, and has the ports lead to it.
fn attach_address(host: &HostContext, plan: &AttachPlan, address: IpAddr) -> Result<Attached> {
    let identity = TargetIdentity(address.to_string());
    if plan.known.as_ref().is_some_and(|known| *known != identity) {
        return Err(Error::TargetChanged(format!("{} had another address than {address}", plan.id)));
    }
    host.rules().hold(&plan.id, items_of(plan, &[], &host.marks)?)?;
    Ok(Attached { identity, namespace: None })
}

/// Whether the container is plugged in as planned already. If only some of it is as planned, every interface of this
/// instance under these names is deleted, so that the attach starts from nothing.
fn is_attached(
    worker: &mut NetnsWorker,
    host: &HostContext,
    target: &OpenTarget,
    veths: &[VethPlan<'_>],
) -> Result<bool> {
    let found = veths.iter().map(|veth| leftover(host, veth)).collect::<Result<Vec<_>>>()?;
    let pairs: Vec<(&VethPlan<'_>, &Link)> =
        veths.iter().zip(&found).filter_map(|(veth, link)| Some((veth, link.as_ref()?))).collect();
    let outside = pairs.len() == veths.len() && pairs.iter().all(|(veth, link)| veth.is_outside(link));
    if outside && inside::compare(worker, target, &pairs)?.iter().all(|inner| *inner == InnerState::AsPlanned) {
        pairs.iter().try_for_each(|(veth, link)| finish(host, veth, link))?;
        return Ok(true);
    }
    pairs.iter().try_for_each(|(_, link)| host.delete(link.index))?;
    Ok(false)
}

/// The link that has the name of the host's end already, if it is this instance's and may be kept or replaced.
fn leftover(host: &HostContext, veth: &VethPlan<'_>) -> Result<Option<Link>> {
    let name = veth.plan.host_name.as_str();
    let Some(link) = host.link(name)? else { return Ok(None) };
    if host.marks.is_reaped(&link) {
        // Its deletion may be pending for some milliseconds more, and the name is free only after that.
        host.reaper.finish()?;
        return host.link(name);
    }
    let ours = matches!(host.marks.read(&link), Some(LinkMark::Attachment(_))) || host.marks.is_half_made(&link);
    if ours { Ok(Some(link)) } else { Err(host.taken(&link)) }
}

fn create(worker: &mut NetnsWorker, host: &HostContext, target: &OpenTarget, veths: &[VethPlan<'_>]) -> Result<()> {
    for veth in veths {
        let creation = veth.creation(&target.netns, host.marks.live_group());
        host.rtnl.run(creation).map_err(|error| creation_error(error, veth, target))?;
    }
    let outer = inside::configure(worker, target, veths)?;
    for (veth, index) in veths.iter().zip(&outer) {
        complete(host, veth, *index, Vec::new())?.map_err(|error| completion_error(error, target))?;
    }
    target.check_alive()?;
    outer.iter().try_for_each(|index| await_carrier(host, *index))
}

/// The host's end is known to be free, so that what exists already can only be the container's.
fn creation_error(error: overlayd_netlink::Error, veth: &VethPlan<'_>, target: &OpenTarget) -> Error {
    if error.is_present() {
        let what = format!("{} in {target}", veth.plan.name);
        return Error::Conflict { what, by: "the container has one of its own already".into() };
    }
    error.into()
}

/// The kernel deletes both ends of a veth pair when the namespace of one of them ends.
fn completion_error(error: overlayd_netlink::Error, target: &OpenTarget) -> Error {
    if error.is_absent() {
        return Error::TargetGone(format!("{target} ended, and its interfaces with it"));
    }
    error.into()
}

/// A bridge whose ports were all without carrier has none itself; its first working port connects it.
fn await_bridges(host: &HostContext, bridges: &[Option<Link>]) -> Result<()> {
    let without_carrier = bridges.iter().flatten().filter(|bridge| !bridge.is_operational());
    without_carrier.map(|bridge| bridge.index).try_for_each(|index| await_carrier(host, index))
}

/// Waits until the kernel has noticed that both ends of an interface, or a bridge, are connected, some tenth of a
/// millisecond after they were. Until then they drop packets, and a container whose first one is lost waits a second.
fn await_carrier(host: &HostContext, index: u32) -> Result<()> {
    for _ in 0..inside::LOOKS {
        let Some(link) = host.rtnl.link(index)? else { return Ok(()) };
        let other = host.rtnl.other_end(&link)?;
        if link.is_operational() && other.is_none_or(|link| link.is_operational()) {
            // The kernel sets the flag under the RTNL lock, a moment before packets pass. This request changes nothing: it
            // waits for the same lock, and so until packets pass.
            return Ok(host.rtnl.run(link::change(index).request())?);
        }
        std::thread::sleep(inside::PAUSE);
    }
    tracing::debug!(interface = index, "the kernel is slow to notice that an interface is connected");
    Ok(())
}

/// Completes the host's end of an interface that exists already.
fn finish(host: &HostContext, veth: &VethPlan<'_>, link: &Link) -> Result<()> {
    let mut also = Vec::new();
    if let HostSide::Bridge(bridge) = veth.home
        && link.master != Some(bridge)
    {
        also.push(link::change(link.index).master(bridge).request());
    }
    if link.mtu != u32::from(veth.plan.mtu) {
        also.push(link::change(link.index).mtu(veth.plan.mtu.into()).request());
    }
    Ok(complete(host, veth, link.index, also)??)
}

fn complete(
    host: &HostContext,
    veth: &VethPlan<'_>,
    index: u32,
    also: Vec<Request>,
) -> Result<overlayd_netlink::Result<()>> {
    if matches!(veth.plan.uplink, Uplink::Routed { .. }) && veth.plan.address.addr().is_ipv6() {
        forwarding::pass_from_leg(host.rtnl.netns(), veth.plan.host_name.as_str())?;
    }
    Ok(host.rtnl.run_all(also.into_iter().chain(veth.outside(index))))
}

/// Unplugs a container whose fence is gone and was not to be put up again. The pass that can plugs it in again.
fn unplug_unfenced(host: &HostContext, id: &AttachmentId, veths: &[VethPlan<'_>]) {
    let standing = host.rules().standing();
    match standing {
        Ok(standing) if standing.contains(id) => {}
        Ok(_) => {
            tracing::error!(container = %id, "unplugged: its fence is gone, and cannot be put up at the moment");
            unplug(host, veths);
        }
        Err(error) => tracing::warn!(container = %id, %error, "whether its fence stands is not to be seen"),
    }
}

/// Takes away what a failed attach made.
fn undo(host: &HostContext, id: &AttachmentId, veths: &[VethPlan<'_>]) {
    unplug(host, veths);
    if let Err(error) = host.rules().release(id) {
        tracing::warn!(container = %id, %error, "the rules of a failed attach are not undone");
    }
}

fn unplug(host: &HostContext, veths: &[VethPlan<'_>]) {
    for veth in veths {
        let removed = leftover(host, veth).and_then(|link| link.map_or(Ok(()), |link| host.delete(link.index)));
        if let Err(error) = removed {
            tracing::warn!(interface = %veth.plan.host_name, %error, "could not be taken away");
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
