//! What an attachment needs in the sets. However many other members its network has, it is the same few elements.

use std::{
    collections::BTreeSet,
    hash::Hasher,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ipnet::IpNet;
use overlayd_core::contract::{AttachPlan, Error, FencePlan, Inbound, PortPlan, PortProtocol, Result, Target};
use overlayd_netlink::link::Mac;
use siphasher::sip::SipHasher13;

use super::sets::{self, MAX_COMMENT, NftElement, RuleItem, SetKind, SetName, comment, joined};
use crate::{
    interfaces::{ContainerInterface, Uplink},
    mark::InstanceMarks,
};

/// A set for each family.
type Pair = [&'static SetKind; 2];

const FENCED: Pair = [&sets::FENCED4, &sets::FENCED6];
const LEAVING: Pair = [&sets::LEAVING4, &sets::LEAVING6];
const ENTERING: Pair = [&sets::ENTERING4, &sets::ENTERING6];
const MEMBERS: Pair = [&sets::MEMBERS4, &sets::MEMBERS6];
const OPEN: Pair = [&sets::OPEN4, &sets::OPEN6];
const CLOSED: Pair = [&sets::CLOSED4, &sets::CLOSED6];
const LEG_SOURCES: Pair = [&sets::LEG_SOURCES4, &sets::LEG_SOURCES6];
const PORT_SOURCES: Pair = [&sets::PORT_SOURCES4, &sets::PORT_SOURCES6];
const BRIDGED: Pair = [&sets::BRIDGED4, &sets::BRIDGED6];
const BRIDGED_LEAVING: Pair = [&sets::BRIDGED_LEAVING4, &sets::BRIDGED_LEAVING6];
const BRIDGED_MEMBERS: Pair = [&sets::BRIDGED_MEMBERS4, &sets::BRIDGED_MEMBERS6];
const SELVES: Pair = [&sets::SELVES4, &sets::SELVES6];
const PORTS: Pair = [&sets::PORTS4, &sets::PORTS6];
const PORTS_AT: Pair = [&sets::PORTS_AT4, &sets::PORTS_AT6];

/// The elements of the attachment as planned.
pub(crate) fn of(
    plan: &AttachPlan,
    interfaces: &[ContainerInterface],
    marks: &InstanceMarks,
) -> Result<BTreeSet<RuleItem>> {
    if comment(&plan.id).len() > MAX_COMMENT {
        return Err(Error::Invalid(format!("{}: an id of at most 120 bytes is needed", plan.id)));
    }
    let addresses = addresses(plan);
    let mut items = BTreeSet::new();
    for interface in interfaces {
        let name = name(interface.host_name.as_str());
        let (mac, _) = marks.leg_macs(interface.address);
        let sources = if let Uplink::Network(network) = &interface.uplink {
            items.insert(RuleItem::Element(NftElement::new(&sets::PORT_MACS, joined(&[&name, &mac]))));
            items.insert(RuleItem::Element(NftElement::new(&sets::HAIRPINS, joined(&[&name, &name]))));
            let gate = marks.bridge_mac(&network.0).to_vec();
            items.insert(RuleItem::Element(NftElement::new(&sets::GATES, name.to_vec()).value(gate)));
            PORT_SOURCES
        } else {
            LEG_SOURCES
        };
        let link_local = IpAddr::from(crate::mark::link_local(mac as Mac));
        for source in addresses.iter().copied().chain([link_local]) {
            let key = joined(&[&name, &bytes(source)]);
            items.insert(RuleItem::Element(NftElement::new(of_family(sources, source), key)));
        }
    }
    if let Some(fence) = &plan.fence {
        items.extend(fence_items(interfaces, fence, &addresses));
    }
    items.extend(port_items(plan, &addresses)?);
    Ok(items)
}

fn addresses(plan: &AttachPlan) -> Vec<IpAddr> {
    match plan.target {
        Target::Address(address) => vec![address],
        _ => plan.addresses().collect(),
    }
}

fn fence_items(interfaces: &[ContainerInterface], fence: &FencePlan, addresses: &[IpAddr]) -> Vec<RuleItem> {
    let network = network_id(&fence.network);
    let group = group_id(fence);
    let in_network = |kind| SetName { kind, of: Some(network.clone()) };
    let bridged = interfaces.iter().filter(|interface| matches!(interface.uplink, Uplink::Network(_)));
    let plugs: Vec<Vec<u8>> = bridged.map(|interface| name(interface.host_name.as_str()).to_vec()).collect();
    let mut elements = Vec::new();
    for &address in addresses {
        let (key, of) = (bytes(address), |pair: Pair| of_family(pair, address));
        let mut add = |set: SetName, chain: Option<String>| {
            let element = NftElement::new(set, key.clone());
            elements.push(chain.into_iter().fold(element, NftElement::jump));
        };
        add(of(FENCED).into(), None);
        add(in_network(of(MEMBERS)), None);
        add(of(LEAVING).into(), Some(format!("leaving-{network}-{group}")));
        if fence.inbound == Inbound::MembersOnly {
            add(of(ENTERING).into(), Some(format!("entering-{network}-{group}")));
        }
        if !plugs.is_empty() {
            add(of(BRIDGED).into(), None);
            add(in_network(of(BRIDGED_MEMBERS)), None);
            add(of(BRIDGED_LEAVING).into(), Some(format!("gate-{network}")));
        }
    }
    for plug in plugs {
        elements.push(NftElement::new(&sets::WIRED, plug.clone()));
        elements.push(NftElement::new(&sets::WIRES, plug.clone()).jump(format!("wire-{network}")));
        elements.push(NftElement::new(in_network(&sets::PLUGS), plug));
    }
    for (ranges, sets) in [(&fence.reachable, OPEN), (&fence.overlay, CLOSED)] {
        for range in merged(ranges) {
            let set = SetName { kind: of_family(sets, range.addr()), of: Some(group.clone()) };
            elements.push(NftElement::range(set, bytes(range.network()), bytes(range.broadcast())));
        }
    }
    let objects = [RuleItem::Network(network.clone()), RuleItem::Group(network, group)];
    objects.into_iter().chain(elements.into_iter().map(RuleItem::Element)).collect()
}

fn port_items(plan: &AttachPlan, addresses: &[IpAddr]) -> Result<Vec<RuleItem>> {
    let mut items = Vec::new();
    for &address in addresses.iter().filter(|_| !plan.ports.is_empty()) {
        let twice = joined(&[&bytes(address), &bytes(address)]);
        items.push(RuleItem::Element(NftElement::new(of_family(SELVES, address), twice)));
    }
    for port in &plan.ports {
        let same_family = |address: &&IpAddr| port.host_ip.is_none_or(|ip| ip.is_ipv4() == address.is_ipv4());
        let to = addresses.iter().find(same_family).ok_or_else(|| no_address(plan, port))?;
        let (first, last) = port.host_ports;
        let count = last.checked_sub(first).ok_or_else(|| empty(plan, port))?;
        port.container_port.checked_add(count).ok_or_else(|| empty(plan, port))?;
        let protocol = [match port.protocol {
            PortProtocol::Tcp => 6,
            PortProtocol::Udp => 17,
        }];
        for offset in 0..=count {
            let outside = (first + offset).to_be_bytes();
            let inside = joined(&[&bytes(*to), &(port.container_port + offset).to_be_bytes()]);
            let item = match port.host_ip {
                None => NftElement::new(of_family(PORTS, *to), joined(&[&protocol, &outside])),
                Some(ip) => NftElement::new(of_family(PORTS_AT, *to), joined(&[&bytes(ip), &protocol, &outside])),
            };
            items.push(RuleItem::Element(item.value(inside)));
        }
    }
    Ok(items)
}

/// The host's UDP ports among these elements.
pub(crate) fn udp_ports<'a>(items: impl Iterator<Item = &'a RuleItem>) -> Vec<(u16, u16)> {
    let udp = items.filter_map(host_port).filter(|(_, protocol)| *protocol == PortProtocol::Udp);
    udp.map(|(at, _)| (at.port(), at.port())).collect()
}

/// The address and port of the host that an element leads to a container, if it does that.
pub(super) fn host_port(item: &RuleItem) -> Option<(SocketAddr, PortProtocol)> {
    let RuleItem::Element(NftElement { set, key, .. }) = item else { return None };
    if !PORTS.contains(&set.kind) && !PORTS_AT.contains(&set.kind) {
        return None;
    }
    let [address @ .., protocol, _, _, _, high, low, _, _] = &key[..] else { return None };
    let protocol = if *protocol == 17 { PortProtocol::Udp } else { PortProtocol::Tcp };
    let address = match address.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
        _ if set.kind == PORTS[0] => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    Some((SocketAddr::new(address, u16::from_be_bytes([*high, *low])), protocol))
}

/// Ranges that do not meet, in no particular order of the caller's.
fn merged(ranges: &[IpNet]) -> Vec<IpNet> {
    IpNet::aggregate(&ranges.iter().map(IpNet::trunc).collect())
}

/// What an isolation network is called in names of sets and chains, where its own would not fit.
fn network_id(name: &str) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(name.as_bytes());
    format!("{:016x}", hasher.finish())
}

/// What the members of a network that have the same bounds are called.
fn group_id(fence: &FencePlan) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(fence.network.as_bytes());
    for ranges in [&fence.reachable, &fence.overlay] {
        let mut ranges = merged(ranges);
        ranges.sort();
        hasher.write(format!("{ranges:?}").as_bytes());
    }
    format!("{:016x}", hasher.finish())
}

fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    let length = text.len().min(15);
    name[..length].copy_from_slice(&text.as_bytes()[..length]);
    name
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn of_family(pair: Pair, address: IpAddr) -> &'static SetKind {
    pair[usize::from(address.is_ipv6())]
}

fn no_address(plan: &AttachPlan, port: &PortPlan) -> Error {
    let at = port.host_ip.map(|ip| format!(" at {ip}")).unwrap_or_default();
    Error::Invalid(format!("{} has no address that port {}{at} could lead to", plan.id, port.host_ports.0))
}

fn empty(plan: &AttachPlan, port: &PortPlan) -> Error {
    let (first, last) = port.host_ports;
    Error::Invalid(format!("{}: ports {first}-{last} do not fit on those from {}", plan.id, port.container_port))
}
