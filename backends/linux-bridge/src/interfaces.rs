//! From the legs of a plan to interfaces of Linux: their names, routes and what the host's end is connected to.
//!
//! Names derive from the attachment's id alone, because a detach has nothing but the id. They are published: other
//! programs match `eth0`, `veth-<pid>-s` and their like in rules of their own.

use std::{hash::Hasher as _, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use overlayd_core::{
    contract::{AttachPlan, AttachmentId, Error, NetworkName, OverlayLeg, Result, ServiceLeg},
    names::LinkName,
};

/// Which leg of a container an interface is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LegKind {
    /// On the service's network: `eth0`.
    Service,
    /// On the overlay itself: `eth1`.
    Overlay,
}

/// One interface of a container, as planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerInterface {
    /// Name inside the container.
    pub(crate) name: LinkName,
    /// Name of the host's end.
    pub(crate) host_name: LinkName,
    /// Address with its prefix.
    pub(crate) address: IpNet,
    /// Route inside the container, next to the connected one.
    pub(crate) route: ContainerRoute,
    /// Largest packet in bytes.
    pub(crate) mtu: u16,
    /// What the host's end is connected to.
    pub(crate) uplink: Uplink,
}

/// A route inside a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContainerRoute {
    /// Destination; `0.0.0.0/0` or `::/0` is the default route.
    pub(crate) destination: IpNet,
    /// Next hop; `None` is on-link.
    pub(crate) gateway: Option<IpAddr>,
}

/// What the host's end of a container interface is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uplink {
    /// The bridge of this network, which must exist.
    Network(NetworkName),
    /// Nothing: the host has a link-scope route to the container's address, with `source` as preferred source.
    Routed {
        /// The node's overlay address.
        source: IpAddr,
    },
}

/// The interfaces that the plan's legs become, in the order in which they are made.
pub(crate) fn interfaces_of(plan: &AttachPlan) -> Result<Vec<ContainerInterface>> {
    let service = plan.service.as_ref().map(|leg| of_service(&plan.id, leg));
    let overlay = plan.overlay.as_ref().map(|leg| of_overlay(&plan.id, leg));
    service.into_iter().chain(overlay).collect()
}

fn of_service(id: &AttachmentId, leg: &ServiceLeg) -> Result<ContainerInterface> {
    Ok(ContainerInterface {
        name: named("eth0")?,
        host_name: host_end(id, LegKind::Service)?,
        address: leg.address,
        route: ContainerRoute { destination: everything(&leg.address), gateway: Some(leg.gateway) },
        mtu: leg.mtu,
        uplink: Uplink::Network(leg.network.clone()),
    })
}

fn of_overlay(id: &AttachmentId, leg: &OverlayLeg) -> Result<ContainerInterface> {
    Ok(ContainerInterface {
        name: named("eth1")?,
        host_name: host_end(id, LegKind::Overlay)?,
        address: IpNet::from(leg.address),
        route: ContainerRoute { destination: leg.range, gateway: None },
        mtu: leg.mtu,
        uplink: Uplink::Routed { source: leg.source },
    })
}

/// Name of the host's end of a container interface: `veth-<pid>-s` and `-g` for a container known by its process, else
/// `vns-`, eight digits of a hash of the id (SipHash-1-3, zero key) and the same ending.
pub(crate) fn host_end(id: &AttachmentId, leg: LegKind) -> Result<LinkName> {
    let ending = match leg {
        LegKind::Service => 's',
        LegKind::Overlay => 'g',
    };
    if let AttachmentId::Process(pid) = id {
        return named(format!("veth-{pid}-{ending}"));
    }
    let mut hasher = siphasher::sip::SipHasher13::new();
    hasher.write(id.to_string().as_bytes());
    named(format!("vns-{:.8}-{ending}", format!("{:016x}", hasher.finish())))
}

/// The names that the host's ends of a container's interfaces may have. An id that gives no name was never attached.
pub(crate) fn host_ends(id: &AttachmentId) -> impl Iterator<Item = LinkName> {
    [LegKind::Service, LegKind::Overlay].into_iter().filter_map(|leg| host_end(id, leg).ok())
}

fn named(name: impl Into<String>) -> Result<LinkName> {
    LinkName::new(name).map_err(|error| Error::Invalid(error.to_string()))
}

fn everything(family: &IpNet) -> IpNet {
    match family {
        IpNet::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpNet::V6(_) => IpNet::V6(Ipv6Net::default()),
    }
}

#[cfg(test)]
mod tests {
    use overlayd_core::contract::Target;

    use super::*;

    fn plan(id: AttachmentId) -> AttachPlan {
        let network = NetworkName("zl-bce5df779a-b".into());
        let address = "10.77.78.194/26".parse().unwrap();
        AttachPlan {
            id,
            target: Target::Process(31337),
            known: None,
            service: Some(ServiceLeg { network, address, gateway: "10.77.78.193".parse().unwrap(), mtu: 1420 }),
            overlay: Some(OverlayLeg {
                address: "10.77.4.2".parse().unwrap(),
                range: "10.77.0.0/16".parse().unwrap(),
                source: "10.77.4.1".parse().unwrap(),
                device: LinkName::new("zl-atlas-n1-g").unwrap(),
                mtu: 1420,
            }),
            resolver: None,
            fence: None,
            ports: vec![],
        }
    }

    #[test]
    fn a_process_has_eth0_and_eth1_and_host_ends_by_its_pid() {
        let made = interfaces_of(&plan(AttachmentId::Process(31337))).unwrap();
        let names: Vec<_> = made.iter().map(|made| (made.name.as_str(), made.host_name.as_str())).collect();
        assert_eq!(names, [("eth0", "veth-31337-s"), ("eth1", "veth-31337-g")]);
        let routes: Vec<_> = made.iter().map(|made| (made.route.destination.to_string(), made.route.gateway)).collect();
        let gateway = Some("10.77.78.193".parse().unwrap());
        assert_eq!(routes, [("0.0.0.0/0".to_owned(), gateway), ("10.77.0.0/16".to_owned(), None)]);
        assert_eq!(made[1].address, "10.77.4.2/32".parse().unwrap());
    }

    #[test]
    fn a_container_known_by_its_namespace_has_host_ends_of_its_own() {
        let one = host_end(&AttachmentId::Namespace("cni-1".into()), LegKind::Service).unwrap();
        let other = host_end(&AttachmentId::Namespace("cni-2".into()), LegKind::Service).unwrap();
        assert_ne!(one, other);
        assert_eq!(one.as_str().len(), 14);
    }

    #[test]
    fn a_number_that_no_process_can_have_gives_no_name() {
        assert!(host_end(&AttachmentId::Process(u32::MAX), LegKind::Service).is_err());
        assert_eq!(host_ends(&AttachmentId::Process(u32::MAX)).count(), 0);
    }
}
