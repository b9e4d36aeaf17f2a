//! What this instance has on the host.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use overlayd_core::contract::{AttachmentId, HostNetworks, NetworkName, ObservedAttachment, ObservedNetwork, Result};
use overlayd_netlink::{Address, Link, OrAbsent};

use crate::{
    host::HostContext,
    mark::{LinkMark, LinkOwner},
    target,
};

/// The networks and attachments that carry our mark, among these links. Interfaces that only wait for deletion are gone
/// already.
pub(crate) fn observe(shared: &HostContext, mut links: Vec<Link>) -> Result<HostNetworks> {
    links.retain(|link| !shared.marks.is_reaped(link));
    let networks = links.iter().filter(|link| shared.marks.is_network(link));
    Ok(HostNetworks {
        networks: networks.map(|bridge| network(shared, bridge, &links)).collect::<Result<_>>()?,
        attachments: attachments(shared, &links)?,
        findings: shared.rules().obstacles()?,
    })
}

fn network(shared: &HostContext, bridge: &Link, links: &[Link]) -> Result<ObservedNetwork> {
    let own = shared.rtnl.addresses(bridge.index).or_absent()?.unwrap_or_default();
    let own = own.into_iter().filter(Address::is_global);
    let mut gateways: Vec<IpNet> = own.map(|address| address.net).collect();
    gateways.sort();
    Ok(ObservedNetwork {
        name: NetworkName(bridge.name.clone()),
        guid: None,
        gateways,
        members: links.iter().filter(|link| link.master == Some(bridge.index)).count(),
    })
}

fn attachments(host: &HostContext, links: &[Link]) -> Result<Vec<ObservedAttachment>> {
    let mut alive: BTreeMap<AttachmentId, bool> = BTreeMap::new();
    let bridges: BTreeSet<u32> =
        links.iter().filter(|link| host.marks.is_network(link)).map(|link| link.index).collect();
    for link in links {
        if let Some(LinkMark::Attachment(owner)) = host.marks.read(link) {
            let plugged = link.master.is_some_and(|master| bridges.contains(&master));
            let in_place = link.up && (plugged || !host.marks.is_bridge_leg(link));
            let lives = *alive.get(&owner.id).unwrap_or(&true) && in_place && is_alive(&owner);
            alive.insert(owner.id, lives);
        } else if let Some(id) = host.marks.is_half_made(link).then(|| id_of_name(&link.name)).flatten() {
            alive.entry(id).or_insert(true);
        }
    }
    // Held no longer than this: attaches wait for the lock.
    let mut rules = host.rules();
    let standing: BTreeSet<AttachmentId> = rules.standing()?.into_iter().collect();
    // Without its fence and ports an attachment is not what was asked for, and has to be made again.
    alive.retain(|id, _| standing.contains(id) || !rules.is_needed_by(id));
    drop(rules);
    for id in standing {
        let is_address = matches!(id, AttachmentId::Guest(_) | AttachmentId::Host(_) | AttachmentId::Edge(_));
        alive.entry(id).or_insert(is_address);
    }
    Ok(alive.into_iter().map(|(id, alive)| ObservedAttachment { id, namespace: None, alive }).collect())
}

/// A process that ended may have left its namespace to others; a namespace itself takes its interfaces along.
fn is_alive(owner: &LinkOwner) -> bool {
    match (&owner.id, owner.start) {
        (AttachmentId::Process(pid), Some(start)) => target::start_of(*pid) == Some(start),
        _ => true,
    }
}

/// The process that an interface without a mark yet is made for (`veth-{pid}-s`).
fn id_of_name(name: &str) -> Option<AttachmentId> {
    let (pid, _) = name.strip_prefix("veth-")?.rsplit_once('-')?;
    pid.parse().ok().map(AttachmentId::Process)
}
