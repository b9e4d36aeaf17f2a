//! One interface of a container: what it consists of on the host and inside.

use std::{net::IpAddr, os::fd::AsFd};

use ipnet::IpNet;
use overlayd_netlink::{
    Link, Request, Route,
    address::{self, PrefixRoute},
    link::{self, Ipv4Setting, Mac, NewVeth},
    neighbour, route,
};

use crate::{
    interfaces::{ContainerInterface, Uplink},
    mark::InstanceMarks,
};

/// Smallest MTU with which the kernel does IPv6 on an interface at all (RFC 8200, section 5).
const LEAST_IPV6_MTU: u16 = 1280;
/// Loose check of the way back (RFC 3704): some interface leads to the source.
const LOOSE: u32 = 2;

/// An interface to make, with all that does not depend on its index.
#[derive(Debug)]
pub(crate) struct VethPlan<'a> {
    pub(crate) plan: &'a ContainerInterface,
    pub(crate) alias: &'a str,
    pub(crate) home: HostSide,
    inside_mac: Mac,
    outside_mac: Mac,
}

/// What the host's end belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostSide {
    /// The bridge with this index.
    Bridge(u32),
    /// Nothing: the host has a route to the container, and prefers this source there.
    Route(IpAddr),
}

impl<'a> VethPlan<'a> {
    pub(crate) fn new(
        plan: &'a ContainerInterface,
        alias: &'a str,
        bridge: Option<u32>,
        marks: &InstanceMarks,
    ) -> Self {
        let (inside_mac, outside_mac) = marks.leg_macs(plan.address);
        let home = match (&plan.uplink, bridge) {
            (Uplink::Routed { source }, _) => HostSide::Route(*source),
            (Uplink::Network(_), bridge) => HostSide::Bridge(bridge.unwrap_or_default()),
        };
        Self { plan, alias, home, inside_mac, outside_mac }
    }

    /// The pair, its inner end in the container from the start.
    pub(crate) fn creation(&self, netns: &impl AsFd, group: u32) -> Request {
        let veth = NewVeth {
            name: self.plan.host_name.as_str(),
            mac: Some(self.outside_mac),
            group,
            master: self.bridge(),
            peer: self.plan.name.as_str(),
            peer_mac: Some(self.inside_mac),
            peer_netns: Some(netns.as_fd()),
            mtu: Some(self.plan.mtu.into()),
        };
        veth.request()
    }

    /// What completes the host's end once the inner end is ready; harmless to repeat. Traffic flows from here on.
    pub(crate) fn outside(&self, index: u32) -> Vec<Request> {
        let change = link::change(index).alias(self.alias).no_link_local();
        let HostSide::Route(source) = self.home else { return vec![change.request(), link::up(index)] };
        let address = self.plan.address.addr();
        let route = Route::by_link(IpNet::from(address), index).from_source(source);
        vec![
            // A container answers by its routed interface what came to its other one.
            change.ipv4(Ipv4Setting::ReversePath, LOOSE).request(),
            link::up(index),
            // An interface without any address fails even the loose check.
            address::ensure(index, IpNet::from(source)),
            route::replace(&route),
            // The neighbour is known. Without this entry the kernel would ask for it, and the container has no on-link
            // address to answer IPv6 solicitations with.
            neighbour::pin(index, address, self.inside_mac),
        ]
    }

    /// What makes the inner end usable. `index` is the container's.
    pub(crate) fn inside(&self, index: u32, among: LinkCount) -> Vec<Request> {
        let change = link::change(index).up();
        let change = match among {
            LinkCount::Several => change.ipv4(Ipv4Setting::ReversePath, LOOSE),
            LinkCount::Single => change,
        };
        let connected = if self.bridge().is_some() { PrefixRoute::Connected } else { PrefixRoute::None };
        let mut requests = Vec::new();
        if self.plan.address.addr().is_ipv4() && self.plan.mtu >= LEAST_IPV6_MTU {
            // The plan has no IPv6 here. The kernel would generate an address and run duplicate detection for seconds.
            requests.push(link::change(index).no_link_local().request());
        }
        requests.extend([address::add(index, self.plan.address, connected), change.request()]);
        if let HostSide::Route(source) = self.home {
            requests.push(neighbour::pin(index, source, self.outside_mac));
        }
        requests.extend(self.routes(index).iter().map(route::add));
        requests
    }

    /// The container's routes by this interface. A routed one reaches everything by the host's end, as the next hop that
    /// the node's own address stands for.
    pub(crate) fn routes(&self, index: u32) -> Vec<Route> {
        let planned = std::iter::once((self.plan.route.destination, self.plan.route.gateway));
        let HostSide::Route(source) = self.home else {
            return planned.map(|(to, gateway)| connected(to, gateway, index)).collect();
        };
        let own = self.plan.address.trunc();
        let whole_prefix = (own.prefix_len() < own.max_prefix_len()).then_some((own, None));
        let by_host = |(to, gateway): (IpNet, Option<IpAddr>)| {
            let next = gateway.unwrap_or(source);
            Route::by_gateway(to, next, Some(index)).on_link().from_source(self.plan.address.addr())
        };
        let first = Route::by_link(IpNet::from(source), index).from_source(self.plan.address.addr());
        std::iter::once(first).chain(whole_prefix.into_iter().chain(planned).map(by_host)).collect()
    }

    /// Whether the host's end is the planned one; its MTU and its bridge may still have to be set.
    pub(crate) fn is_outside(&self, link: &Link) -> bool {
        let can_be_plugged = self.bridge().is_some() || link.master.is_none();
        link.is_kind("veth") && link.alias.as_deref() == Some(self.alias) && can_be_plugged
    }

    fn bridge(&self) -> Option<u32> {
        match self.home {
            HostSide::Bridge(index) => Some(index),
            HostSide::Route(_) => None,
        }
    }
}

/// Whether a container's interface is one of several. Then packets come by one and go by the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkCount {
    Single,
    Several,
}

fn connected(to: IpNet, gateway: Option<IpAddr>, index: u32) -> Route {
    match gateway {
        Some(gateway) => Route::by_gateway(to, gateway, Some(index)),
        None => Route::by_link(to, index),
    }
}
