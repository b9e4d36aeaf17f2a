//! From the legs of a plan to interfaces, as a host would make them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use overlayd_core::{
    contract::{AttachPlan, NetworkName},
    names::LinkName,
};

/// An interface as the container sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenInterface {
    /// Its name.
    pub name: LinkName,
    /// Its address with the prefix.
    pub address: IpNet,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// Next hop of the default route, where it has that.
    pub default_gateway: Option<IpAddr>,
}

/// An interface of a container, with what its host's end is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FakeInterface {
    pub(super) name: &'static str,
    pub(super) address: IpNet,
    pub(super) mtu: u16,
    /// Where it leads to, and by which next hop.
    pub(super) route: (IpNet, Option<IpAddr>),
    pub(super) uplink: FakeUplink,
}

/// What the host's end of an interface is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FakeUplink {
    Network(NetworkName),
    Routed { source: IpAddr },
}

/// The interfaces of a plan, in the order in which they are made.
pub(super) fn interfaces_of(plan: &AttachPlan) -> Vec<FakeInterface> {
    let service = plan.service.as_ref().map(|leg| FakeInterface {
        name: "eth0",
        address: leg.address,
        mtu: leg.mtu,
        route: (everything(leg.gateway), Some(leg.gateway)),
        uplink: FakeUplink::Network(leg.network.clone()),
    });
    let overlay = plan.overlay.as_ref().map(|leg| FakeInterface {
        name: "eth1",
        address: leg.address.into(),
        mtu: leg.mtu,
        route: (leg.range, None),
        uplink: FakeUplink::Routed { source: leg.source },
    });
    service.into_iter().chain(overlay).collect()
}

impl FakeInterface {
    pub(super) fn seen(self) -> SeenInterface {
        let (destination, gateway) = self.route;
        SeenInterface {
            name: LinkName::new(self.name).expect("an interface name"),
            address: self.address,
            mtu: self.mtu,
            default_gateway: gateway.filter(|_| destination.prefix_len() == 0),
        }
    }
}

fn everything(family: IpAddr) -> IpNet {
    match family {
        IpAddr::V4(_) => Ipv4Net::default().into(),
        IpAddr::V6(_) => Ipv6Net::default().into(),
    }
}
