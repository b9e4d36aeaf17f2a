//! The addresses by which packets to the outside leave this host. Pure.

use std::net::IpAddr;

use overlayd_netlink::{Address, Link, Route};

/// Names of interfaces that lead to no underlay: the loopback device, tunnels, overlays and containers.
const VIRTUAL: [&str; 11] = ["lo", "wt", "wg", "zl-", "utun", "tun", "tap", "docker", "br-", "veth", "nb"];
/// Kinds of interfaces that are tunnels, under any name.
const TUNNELS: [&str; 2] = ["tun", "wireguard"];

/// What the kernel says of a host's network.
#[derive(Debug, Clone, Copy)]
pub struct NetworkFacts<'a> {
    /// All interfaces.
    pub links: &'a [Link],
    /// All addresses.
    pub addresses: &'a [Address],
    /// The routes of the main table.
    pub routes: &'a [Route],
}

/// The address by which this host reaches the outside, per family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EgressAddresses {
    /// In IPv4.
    pub v4: Option<IpAddr>,
    /// In IPv6.
    pub v6: Option<IpAddr>,
}

impl EgressAddresses {
    /// Per family, the default route of the lowest metric whose interface is not virtual and has a global address; where
    /// there is none, the first interface that is up, not virtual, and has one.
    pub fn of(host: &NetworkFacts<'_>) -> Self {
        Self { v4: host.egress(IpAddr::is_ipv4), v6: host.egress(IpAddr::is_ipv6) }
    }

    /// IPv4 first.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        self.v4.into_iter().chain(self.v6)
    }
}

impl NetworkFacts<'_> {
    fn egress(&self, family: fn(&IpAddr) -> bool) -> Option<IpAddr> {
        self.by_default_route(family).or_else(|| {
            let mut links = self.links.iter().filter(|link| link.up && !is_virtual(link));
            links.find_map(|link| self.address_of(link.index, family))
        })
    }

    fn by_default_route(&self, family: fn(&IpAddr) -> bool) -> Option<IpAddr> {
        let is_default = |route: &&Route| route.destination.prefix_len() == 0 && family(&route.destination.addr());
        let mut routes: Vec<&Route> = self.routes.iter().filter(is_default).collect();
        // The kernel leaves out a metric of 0.
        routes.sort_by_key(|route| route.metric.unwrap_or(0));
        routes.into_iter().find_map(|route| {
            let link = self.links.iter().find(|link| Some(link.index) == route.link && !is_virtual(link))?;
            route
                .source
                .filter(|source| self.holds(link.index, *source))
                .or_else(|| self.address_of(link.index, family))
        })
    }

    fn address_of(&self, link: u32, family: fn(&IpAddr) -> bool) -> Option<IpAddr> {
        self.global_of(link).find(family)
    }

    fn holds(&self, link: u32, ip: IpAddr) -> bool {
        self.global_of(link).any(|held| held == ip)
    }

    fn global_of(&self, link: u32) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().filter(move |held| held.link == link && held.is_global()).map(|held| held.net.addr())
    }
}

fn is_virtual(link: &Link) -> bool {
    VIRTUAL.iter().any(|prefix| link.name.starts_with(prefix)) || TUNNELS.iter().any(|kind| link.is_kind(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.into(), up: true, ..Link::default() }
    }

    fn global(link: u32, net: &str) -> Address {
        Address { link, net: net.parse().unwrap(), scope: 0 }
    }

    fn default_route(link: u32, gateway: &str, metric: u32) -> Route {
        let gateway: IpAddr = gateway.parse().unwrap();
        let all = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let metric = Some(metric).filter(|metric| *metric > 0);
        Route { metric, ..Route::by_gateway(all.parse().unwrap(), gateway, Some(link)) }
    }

    fn found(links: &[Link], addresses: &[Address], routes: &[Route]) -> Vec<String> {
        EgressAddresses::of(&NetworkFacts { links, addresses, routes }).addresses().map(|ip| ip.to_string()).collect()
    }

    #[test]
    fn the_default_route_of_the_lowest_metric_decides() {
        let links = [link(2, "eth0"), link(3, "eth1")];
        let addresses = [global(2, "192.0.2.4/24"), global(3, "198.51.100.4/24")];
        let routes = [default_route(2, "192.0.2.1", 100), default_route(3, "198.51.100.1", 0)];
        assert_eq!(found(&links, &addresses, &routes), ["198.51.100.4"]);
    }

    #[test]
    fn a_default_route_into_a_tunnel_or_without_an_address_is_passed_over() {
        let links = [link(2, "eth0"), link(3, "wg0"), link(4, "eth1"), link(5, "zl-atlas-n1-g")];
        let addresses = [global(2, "192.0.2.4/24"), global(3, "10.8.0.2/24"), global(5, "10.77.4.1/16")];
        let routes =
            [default_route(3, "10.8.0.1", 0), default_route(4, "203.0.113.1", 5), default_route(2, "192.0.2.1", 9)];
        assert_eq!(found(&links, &addresses, &routes), ["192.0.2.4"]);
    }

    #[test]
    fn a_tunnel_is_known_by_its_kind_too() {
        let links = [Link { kind: Some("wireguard".into()), ..link(2, "vpn") }, link(3, "eth0")];
        let addresses = [global(2, "10.8.0.2/24"), global(3, "192.0.2.4/24")];
        assert_eq!(found(&links, &addresses, &[default_route(2, "10.8.0.1", 0)]), ["192.0.2.4"]);
    }

    #[test]
    fn both_families_are_found_each_by_its_own_route() {
        let links = [link(2, "eth0"), link(3, "eth1")];
        let addresses = [global(2, "192.0.2.4/24"), global(3, "2001:db8::4/64")];
        let routes = [default_route(3, "fe80::1", 1024), default_route(2, "192.0.2.1", 0)];
        assert_eq!(found(&links, &addresses, &routes), ["192.0.2.4", "2001:db8::4"]);
    }

    #[test]
    fn the_source_that_a_route_prefers_is_taken_when_the_interface_has_it() {
        let links = [link(2, "eth0")];
        let addresses = [global(2, "192.0.2.4/24"), global(2, "192.0.2.5/24")];
        let preferring = |ip: &str| default_route(2, "192.0.2.1", 0).from_source(ip.parse().unwrap());
        assert_eq!(found(&links, &addresses, &[preferring("192.0.2.5")]), ["192.0.2.5"]);
        assert_eq!(found(&links, &addresses, &[preferring("203.0.113.9")]), ["192.0.2.4"]);
    }

    #[test]
    fn without_a_default_route_the_first_real_interface_is_taken() {
        let down = Link { up: false, ..link(2, "eth0") };
        let links = [link(1, "lo"), down, link(3, "docker0"), link(4, "eth1")];
        let addresses = [global(2, "192.0.2.4/24"), global(3, "172.17.0.1/16"), global(4, "198.51.100.4/24")];
        assert_eq!(found(&links, &addresses, &[]), ["198.51.100.4"]);
    }

    #[test]
    fn addresses_of_the_link_alone_are_none() {
        let linklocal = Address { link: 2, net: "fe80::4/64".parse().unwrap(), scope: 253 };
        assert!(found(&[link(2, "eth0")], &[linklocal], &[default_route(2, "fe80::1", 0)]).is_empty());
    }
}
