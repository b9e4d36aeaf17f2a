//! Where a range that is to be routed into an overlay meets what the host already reaches. [`overlaps`] is pure.

use std::fmt;

use ipnet::IpNet;

use crate::{Address, Link, Result, Route, Rtnl};

/// What every alias of a link of this program begins with.
const MARK: &str = "overlayd:";
/// Kinds of links that lead to a network of hardware.
const HARDWARE: [&str; 6] = ["bond", "ipvlan", "macvlan", "team", "team_slave", "vlan"];

/// What the kernel says of a host's network.
#[derive(Debug, Clone, Copy)]
pub struct HostNetwork<'a> {
    /// All links.
    pub links: &'a [Link],
    /// All addresses.
    pub addresses: &'a [Address],
    /// The routes of the main table.
    pub routes: &'a [Route],
}

/// A range that meets something of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// The range that is to be routed into the overlay.
    pub range: IpNet,
    /// Name of the link that it meets.
    pub link: String,
    /// What of that link it meets.
    pub with: OverlapTarget,
    /// What would become of the host.
    pub effect: OverlapEffect,
}

/// What of the host a range meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlapTarget {
    /// The next hop of a default route.
    Gateway(std::net::IpAddr),
    /// An address.
    Address(IpNet),
    /// A route.
    Route(IpNet),
}

/// What routing the range into the overlay does to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlapEffect {
    /// It loses its way to its own network.
    CutsOff,
    /// Some destinations are reached another way than before, or the overlay does not reach some of its own.
    Ambiguous,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { link, with, .. } = self;
        match with {
            OverlapTarget::Gateway(ip) => write!(f, "the default route by {ip} on interface {link}"),
            OverlapTarget::Address(net) => write!(f, "the address {net} of interface {link}"),
            OverlapTarget::Route(net) => write!(f, "the route {net} on interface {link}"),
        }
    }
}

/// Why ranges must not be routed into an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutOff {
    /// The range, in words.
    pub what: String,
    /// What it meets, by interface and route, and what to do.
    pub by: String,
}

/// Whether routing `ranges` into the link `device` would cut this host off from its own network. What else they meet is
/// logged. Ranges that the device has already are not asked about again.
pub fn check(rtnl: &Rtnl, device: &str, ranges: &[IpNet]) -> Result<Option<CutOff>> {
    let overlaps = found(rtnl, device, ranges)?;
    let fatal: Vec<&Overlap> = overlaps.iter().filter(|overlap| overlap.effect == OverlapEffect::CutsOff).collect();
    if let Some(first) = fatal.first() {
        let met: Vec<String> = fatal.iter().map(ToString::to_string).collect();
        let by = format!("it would cut this host off, because it covers {}; use another range", met.join(", "));
        return Ok(Some(CutOff { what: format!("the overlay range {}", first.range), by }));
    }
    for overlap in &overlaps {
        let Overlap { range, link, .. } = overlap;
        tracing::warn!(device, %range, interface = link, meets = %overlap, "the overlay overlaps with this host");
    }
    Ok(None)
}

fn found(rtnl: &Rtnl, device: &str, ranges: &[IpNet]) -> Result<Vec<Overlap>> {
    let mut new: Vec<IpNet> = ranges.iter().map(IpNet::trunc).collect();
    let own = rtnl.link(device)?.map(|link| link.index);
    if let Some(own) = own {
        let held = rtnl.addresses(own)?;
        new.retain(|range| !held.iter().any(|held| held.net.trunc() == *range));
    }
    // Asked again and again of a device that is as it should be: the long list of routes is not read for that.
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let (links, addresses, routes) = (rtnl.links()?, rtnl.all_addresses()?, rtnl.routes()?);
    let routed = |range: &IpNet| routes.iter().any(|route| route.link == own && route.destination == *range);
    new.retain(|range| own.is_none() || !routed(range));
    let mut found = overlaps(&new, &HostNetwork { links: &links, addresses: &addresses, routes: &routes });
    found.retain(|overlap| overlap.link != device);
    Ok(found)
}

/// What the ranges meet on the host, worst first. Links of this program do not count.
pub fn overlaps(ranges: &[IpNet], host: &HostNetwork<'_>) -> Vec<Overlap> {
    let ranges = IpNet::aggregate(&ranges.iter().map(IpNet::trunc).collect());
    let mut found: Vec<Overlap> = ranges.into_iter().flat_map(|range| host.met_by(range)).collect();
    found.sort_by_key(|overlap| overlap.effect == OverlapEffect::Ambiguous);
    found
}

impl HostNetwork<'_> {
    fn met_by(&self, range: IpNet) -> Vec<Overlap> {
        let routes = self.routes.iter().filter_map(|route| self.met_route(range, route));
        let mut found: Vec<Overlap> = routes.collect();
        for held in self.addresses.iter().filter(|held| range.contains(&held.net.addr())) {
            let Some(link) = self.foreign(held.link) else { continue };
            let effect = if self.is_uplink(link) { OverlapEffect::CutsOff } else { OverlapEffect::Ambiguous };
            // The connected route of an address says the same already, unless the address weighs more.
            let told =
                |other: &Overlap| other.link == link.name && other.with == OverlapTarget::Route(held.net.trunc());
            if effect == OverlapEffect::CutsOff || !found.iter().any(told) {
                found.push(Overlap { range, link: link.name.clone(), with: OverlapTarget::Address(held.net), effect });
            }
        }
        found
    }

    fn met_route(&self, range: IpNet, route: &Route) -> Option<Overlap> {
        let link = self.foreign(route.link?)?;
        let met = |with, effect| Some(Overlap { range, link: link.name.clone(), with, effect });
        if route.destination.prefix_len() == 0 {
            let gateway = route.gateway.filter(|gateway| range.contains(gateway))?;
            return met(OverlapTarget::Gateway(gateway), OverlapEffect::CutsOff);
        }
        let covered = range.contains(&route.destination);
        if !covered && !route.destination.contains(&range) {
            return None;
        }
        let own_network = route.gateway.is_none() && (is_hardware(link) || self.is_uplink(link));
        let effect = if covered && own_network { OverlapEffect::CutsOff } else { OverlapEffect::Ambiguous };
        met(OverlapTarget::Route(route.destination), effect)
    }

    fn foreign(&self, index: u32) -> Option<&Link> {
        let ours = |link: &Link| link.alias.as_deref().is_some_and(|alias| alias.starts_with(MARK));
        self.links.iter().find(|link| link.index == index).filter(|link| !ours(link))
    }

    /// Whether a default route leaves by it.
    fn is_uplink(&self, link: &Link) -> bool {
        self.routes.iter().any(|route| route.destination.prefix_len() == 0 && route.link == Some(link.index))
    }
}

fn is_hardware(link: &Link) -> bool {
    match link.kind.as_deref() {
        None => link.name != "lo",
        Some(kind) => HARDWARE.contains(&kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with a LAN on `eth0` by which it reaches the world, storage on `eth1`, containers on `docker0` and a
    /// tunnel to 10.8.0.0/16.
    fn against(ranges: &[&str]) -> Vec<String> {
        let link = |index, name: &str, kind: Option<&str>| Link {
            index,
            name: name.into(),
            kind: kind.map(Into::into),
            up: true,
            ..Link::default()
        };
        let ours = Link { alias: Some("overlayd:0123:network".into()), ..link(6, "zl-web-b", Some("bridge")) };
        let links = [
            link(1, "lo", None),
            link(2, "eth0", None),
            link(3, "eth1", None),
            link(4, "docker0", Some("bridge")),
            link(5, "wg0", Some("wireguard")),
            ours,
        ];
        let held = [
            (2, "192.0.2.4/24"),
            (2, "2001:db8::4/64"),
            (3, "10.20.0.4/24"),
            (4, "172.17.0.1/16"),
            (5, "10.8.0.2/32"),
            (6, "10.77.4.65/26"),
        ];
        let address = |(link, text): &(u32, &str)| Address { link: *link, net: text.parse().unwrap(), scope: 0 };
        let addresses: Vec<Address> = held.iter().map(address).collect();
        let connected = |held: &Address| Route::by_link(held.net, held.link);
        let mut routes: Vec<Route> = addresses.iter().filter(|held| held.link != 5).map(connected).collect();
        let by = |text: &str, gateway: &str, link| {
            Route::by_gateway(text.parse().unwrap(), gateway.parse().unwrap(), Some(link))
        };
        routes.push(by("0.0.0.0/0", "192.0.2.1", 2));
        routes.push(by("::/0", "2001:db8::1", 2));
        routes.push(by("10.30.0.0/16", "192.0.2.9", 2));
        routes.push(Route::by_link("10.8.0.0/16".parse().unwrap(), 5));
        let ranges: Vec<IpNet> = ranges.iter().map(|range| range.parse().unwrap()).collect();
        let host = HostNetwork { links: &links, addresses: &addresses, routes: &routes };
        overlaps(&ranges, &host).iter().map(|overlap| format!("{:?}: {overlap}", overlap.effect)).collect()
    }

    #[test]
    fn ranges_meet_what_the_host_reaches() {
        const LAN: [&str; 3] = [
            "CutsOff: the route 192.0.2.0/24 on interface eth0",
            "CutsOff: the default route by 192.0.2.1 on interface eth0",
            "CutsOff: the address 192.0.2.4/24 of interface eth0",
        ];
        let table: &[(&[&str], &[&str])] = &[
            (&["10.77.0.0/16"], &[]),
            (&["10.77.4.1/16", "10.77.4.9/32"], &[]),
            (&["fd00:77::/48"], &[]),
            // What covers the LAN, or is the LAN.
            (&["192.0.2.0/24"], &LAN),
            (&["192.0.0.0/16"], &LAN),
            (
                &["2001:db8::/32"],
                &[
                    "CutsOff: the route 2001:db8::/64 on interface eth0",
                    "CutsOff: the default route by 2001:db8::1 on interface eth0",
                    "CutsOff: the address 2001:db8::4/64 of interface eth0",
                ],
            ),
            // A part of the LAN: with its gateway, with this host, with neither.
            (
                &["192.0.2.0/31"],
                &[
                    "CutsOff: the default route by 192.0.2.1 on interface eth0",
                    "Ambiguous: the route 192.0.2.0/24 on interface eth0",
                ],
            ),
            (
                &["192.0.2.4/31"],
                &[
                    "CutsOff: the address 192.0.2.4/24 of interface eth0",
                    "Ambiguous: the route 192.0.2.0/24 on interface eth0",
                ],
            ),
            (&["192.0.2.128/25"], &["Ambiguous: the route 192.0.2.0/24 on interface eth0"]),
            // Another network of hardware.
            (&["10.20.0.0/16"], &["CutsOff: the route 10.20.0.0/24 on interface eth1"]),
            // What lies behind a gateway, containers of other programs, a tunnel.
            (&["10.30.4.0/24"], &["Ambiguous: the route 10.30.0.0/16 on interface eth0"]),
            (&["172.16.0.0/12"], &["Ambiguous: the route 172.17.0.0/16 on interface docker0"]),
            (
                &["10.8.0.0/24"],
                &[
                    "Ambiguous: the route 10.8.0.0/16 on interface wg0",
                    "Ambiguous: the address 10.8.0.2/32 of interface wg0",
                ],
            ),
        ];
        for (ranges, expected) in table {
            let mut seen = against(ranges);
            assert!(seen.is_sorted_by_key(|line| line.starts_with("Ambiguous")), "worst first: {seen:?}");
            let mut expected = expected.to_vec();
            seen.sort();
            expected.sort();
            assert_eq!(seen, expected, "{ranges:?}");
        }
    }
}
