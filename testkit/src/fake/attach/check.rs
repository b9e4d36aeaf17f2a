//! What a plan must be for a host to carry it out. Stricter than a kernel, so that the engine's mistakes show.

use ipnet::IpNet;
use overlayd_core::{
    contract::{AttachPlan, AttachmentId, Egress, Error, NetworkPlan, Result, Target, TargetIdentity},
    names::{InstanceId, LinkName},
};

use super::{
    FakeAttacher, FakePlatform,
    interface::{FakeInterface, FakeUplink, interfaces_of},
    unsupported,
    world::FakeWorld,
};

/// Smallest MTU of a link that carries IPv6 (RFC 8200); below it the kernel takes IPv6 away.
const LEAST_MTU: u16 = 1280;

pub(super) fn network(platform: FakePlatform, plan: &NetworkPlan) -> Result<()> {
    if plan.gateways.is_empty() {
        return Err(Error::Invalid(format!("network {} has no gateway", plan.name)));
    }
    if plan.mtu < LEAST_MTU {
        return Err(Error::Invalid(format!("MTU {} of network {} is below {LEAST_MTU}", plan.mtu, plan.name)));
    }
    if let Some(gateway) = plan.gateways.iter().find(|gateway| !is_host(gateway)) {
        return Err(Error::Invalid(format!("{gateway} is not an address that a host can have")));
    }
    match platform {
        FakePlatform::Linux => {
            LinkName::new(plan.name.0.clone()).map(drop).map_err(|error| Error::Invalid(error.to_string()))
        }
        FakePlatform::Windows => match plan.egress {
            Egress::None | Egress::Nat | Egress::Masquerade => Ok(()),
        },
    }
}

/// The kind of handle and target that the platform has.
pub(super) fn target(platform: FakePlatform, plan: &AttachPlan) -> Result<()> {
    if let Target::Address(_) = plan.target {
        let elsewhere = matches!(plan.id, AttachmentId::Guest(_) | AttachmentId::Host(_) | AttachmentId::Edge(_));
        return match elsewhere && plan.addresses().next().is_none() {
            true => Ok(()),
            false => Err(Error::Invalid(format!("{} has no namespace to plug interfaces into", plan.id))),
        };
    }
    let fits = match platform {
        FakePlatform::Linux => matches!(
            (&plan.id, &plan.target),
            (AttachmentId::Process(_), Target::Process(_)) | (AttachmentId::Namespace(_), Target::Namespace(_))
        ),
        FakePlatform::Windows => matches!((&plan.id, &plan.target), (AttachmentId::Compute(_), Target::Compute(_))),
    };
    if fits && plan.target == Target::Process(FakeAttacher::DAEMON_PID) {
        return Err(Error::Refused(format!("{} is in the daemon's own network namespace", plan.id)));
    }
    match fits {
        true => Ok(()),
        false => Err(unsupported(format!("attaching {} at {:?}", plan.id, plan.target), "another platform's handle")),
    }
}

pub(super) fn known(plan: &AttachPlan, now: &TargetIdentity) -> Result<()> {
    match &plan.known {
        Some(known) if known != now => Err(Error::TargetChanged(plan.id.to_string())),
        _ => Ok(()),
    }
}

pub(super) fn interfaces(
    platform: FakePlatform,
    instance: &InstanceId,
    world: &FakeWorld,
    plan: &AttachPlan,
) -> Result<()> {
    if let Target::Address(_) = plan.target {
        return Ok(());
    }
    if platform == FakePlatform::Windows && (plan.service.is_none() || plan.overlay.is_some()) {
        return Err(unsupported(format!("the legs of {}", plan.id), "HCN has one endpoint on one network here"));
    }
    let interfaces = interfaces_of(plan);
    if interfaces.is_empty() {
        return Err(Error::Invalid(format!("{} is to get no interface", plan.id)));
    }
    if plan.overlay.as_ref().is_some_and(|leg| leg.source.is_ipv4() != leg.address.is_ipv4()) {
        return Err(Error::Invalid(format!("the overlay leg of {} mixes IPv4 and IPv6", plan.id)));
    }
    interfaces.iter().try_for_each(|interface| one_interface(instance, world, plan, interface))
}

fn one_interface(instance: &InstanceId, world: &FakeWorld, plan: &AttachPlan, interface: &FakeInterface) -> Result<()> {
    if !is_host(&interface.address) {
        return Err(Error::Invalid(format!("{} is not an address that a host can have", interface.address)));
    }
    let (destination, gateway) = interface.route;
    if let Some(gateway) = gateway.filter(|gateway| !interface.address.contains(gateway)) {
        let what = format!("{gateway}, the next hop to {destination}, is not reachable from {}", interface.address);
        return Err(Error::Invalid(what));
    }
    if let Some(other) = world.other_holder(&plan.id, interface) {
        return Err(Error::Conflict { what: interface.address.addr().to_string(), by: other });
    }
    let FakeUplink::Network(name) = &interface.uplink else { return Ok(()) };
    let network = world.networks.get(name).filter(|network| network.mark.as_ref() == Some(instance));
    let Some(network) = network else { return Err(Error::NotFound(format!("network {name}"))) };
    let gateway = network.plan.gateways.iter().find(|gateway| gateway.trunc() == interface.address.trunc());
    match gateway {
        Some(gateway) if gateway.addr() == interface.address.addr() => {
            Err(Error::Conflict { what: gateway.addr().to_string(), by: format!("the gateway of {name}") })
        }
        Some(_) if interface.mtu <= network.plan.mtu => Ok(()),
        Some(_) => Err(Error::Invalid(format!("MTU {} is more than network {name} carries", interface.mtu))),
        None => Err(Error::Invalid(format!("{} is outside of network {name}", interface.address))),
    }
}

/// Neither the network's own address nor its broadcast, unless the prefix is too long to have them (RFC 3021).
fn is_host(address: &IpNet) -> bool {
    let room = address.max_prefix_len() - address.prefix_len() >= 2;
    let broadcast = matches!(address, IpNet::V4(v4) if v4.addr() == v4.broadcast());
    !room || (address.addr() != address.network() && !broadcast)
}
