//! Plans become settings and a view here, or are refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use domain::base::Ttl;
use overlayd_core::contract::{DnsChange, DnsPlan, Error, Result};

use crate::{
    name::NameKey,
    zones::{ZoneSettings, ZoneSource, ZoneView},
};

/// Most addresses of one name: an answer over TCP has room for them.
pub(crate) const MAX_ADDRESSES: usize = 1000;
/// Longest TTL, in seconds (RFC 2181, section 8).
const MAX_TTL: u64 = i32::MAX as u64;

/// The settings that a plan asks for.
pub(crate) fn settings(plan: &DnsPlan) -> Result<ZoneSettings> {
    check_sockets(plan)?;
    let mut zones = BTreeMap::new();
    for zone in &plan.zones {
        let apex = name(zone)?;
        let server = apex.child("ns");
        zones.insert(apex, ZoneSource::Local(server));
    }
    let server_name = plan.zones.first().map(|zone| name(zone)).transpose()?.map(|apex| apex.child("ns"));
    for (zone, servers) in &plan.split {
        if servers.is_empty() {
            return Err(Error::Invalid(format!("the split zone `{zone}` has no servers")));
        }
        if zones.insert(name(zone)?, ZoneSource::Split(servers.as_slice().into())).is_some() {
            return Err(Error::Invalid(format!("the zone `{zone}` is both ours and split")));
        }
    }
    let ttl = plan.ttl.as_secs();
    if ttl > MAX_TTL {
        return Err(Error::Invalid(format!("a TTL of {ttl} s is longer than {MAX_TTL} s")));
    }
    let reverse = plan.reverse.iter().map(ipnet::IpNet::trunc).collect();
    let server = server_addresses(&plan.listen);
    Ok(ZoneSettings { zones, reverse, ttl: Ttl::from_secs(ttl as u32), server, server_name })
}

impl ZoneView {
    /// What a plan has answered.
    pub fn of(plan: &DnsPlan) -> Result<Self> {
        view(plan, settings(plan)?, 1)
    }
}

/// The records of a plan under its settings.
pub(crate) fn view(plan: &DnsPlan, settings: ZoneSettings, serial: u32) -> Result<ZoneView> {
    let mut view = ZoneView::empty(Arc::new(settings), serial);
    for (name, addresses) in &plan.records {
        set(&mut view, name, addresses)?;
    }
    Ok(view)
}

/// The view with the changes made.
pub(crate) fn changed(view: &ZoneView, changes: &[DnsChange]) -> Result<ZoneView> {
    let mut view = view.clone();
    for change in changes {
        match change {
            DnsChange::Set(name, addresses) => set(&mut view, name, addresses)?,
            DnsChange::Remove(text) => view.remove(&name(text)?),
        }
    }
    view.serial = view.serial.wrapping_add(1);
    Ok(view)
}

fn set(view: &mut ZoneView, text: &str, addresses: &BTreeSet<IpAddr>) -> Result<()> {
    let name = name(text)?;
    if view.zone_of(&name).is_none() {
        return Err(Error::Invalid(format!("`{text}` is in none of the zones")));
    }
    if addresses.len() > MAX_ADDRESSES {
        let many = addresses.len();
        return Err(Error::Invalid(format!("`{text}` has {many} addresses, more than {MAX_ADDRESSES}")));
    }
    view.set(name, addresses);
    Ok(())
}

fn name(text: &str) -> Result<NameKey> {
    NameKey::parse(text).map_err(|error| Error::Invalid(error.to_string()))
}

fn check_sockets(plan: &DnsPlan) -> Result<()> {
    // Answers from a wildcard socket could leave by another address than the one that was asked.
    match plan.listen.iter().find(|socket| socket.ip().is_unspecified() || socket.port() == 0) {
        Some(socket) => Err(Error::Invalid(format!("{socket} cannot be listened on: name an address and a port"))),
        None => Ok(()),
    }
}

/// The addresses of the name server of the local zones. A loopback address would mean another host to each client.
fn server_addresses(listen: &[SocketAddr]) -> Arc<[IpAddr]> {
    let ips: BTreeSet<IpAddr> = listen.iter().map(SocketAddr::ip).filter(|ip| !ip.is_loopback()).collect();
    ips.into_iter().collect()
}
