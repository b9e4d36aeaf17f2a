//! Making, adopting, reading and removing devices.

use std::{collections::BTreeMap, sync::Arc};

use overlayd_core::{
    contract::{DeviceInfo, DevicePlan, DeviceStatus, Error, PeerChange, Result, check_peer_changes},
    names::LinkName,
};
use overlayd_netlink::{
    Link, NetworkManagers, OrAbsent, OwnChanges, Rtnl,
    device::{self, LinkPlan},
    link as request,
};
use rustix::io::Errno;

use crate::{
    changes::{ChangeBatch, KernelStep, PARKING_PEER},
    config::Config,
    control::{self, DeviceSettings, DeviceState},
    mark::DeviceMark,
    peer_cache::PeerCache,
    redirects::RedirectSetting,
};

/// The devices that carry our mark. Everything is looked up where it is used: the kernel is the one who remembers.
pub(crate) struct KernelDevices {
    mark: DeviceMark,
    managers: Option<NetworkManagers>,
    fwmark: Option<u32>,
    own_changes: OwnChanges,
    redirects: RedirectSetting,
}

impl KernelDevices {
    pub(crate) fn new(config: Config) -> Self {
        let Config { instance, managers, fwmark, own_changes } = config;
        Self { mark: DeviceMark::new(instance), managers, fwmark, own_changes, redirects: RedirectSetting::default() }
    }

    /// The routing interface of the calling thread's network namespace.
    fn rtnl(&self) -> Result<Rtnl> {
        Ok(Rtnl::noting(self.own_changes.clone())?)
    }

    /// Makes the device be as planned.
    pub(crate) fn ensure(&self, plan: &DevicePlan, cache: &mut Option<PeerCache>) -> Result<DeviceInfo> {
        let rtnl = self.rtnl()?;
        device::check_overlaps(&rtnl, plan.name.as_str(), &plan.addresses, &plan.routes)?;
        let mtu = device::mtu(&rtnl, plan.mtu, &plan.addresses)?;
        let present = rtnl.link(plan.name.as_str())?;
        let info = match present {
            Some(link) if self.mark.is_on(&link) => self.adapt(&rtnl, &link, plan, mtu, cache)?,
            Some(link) => return Err(device::name_taken(&link)),
            None => self.make_alone(&rtnl, plan, mtu)?,
        };
        Ok(info)
    }

    /// Names of the devices.
    pub(crate) fn names(&self) -> Result<Vec<LinkName>> {
        let links = self.rtnl()?.links_of("wireguard")?;
        let ours = links.into_iter().filter(|link| self.mark.is_on(link));
        Ok(ours.filter_map(|link| LinkName::new(link.name).ok()).collect())
    }

    /// The device as it is; `None` if it is gone by now.
    pub(crate) fn observe(&self, name: &LinkName, cache: &mut Option<PeerCache>) -> Result<Option<DeviceStatus>> {
        let rtnl = self.rtnl()?;
        let Some(link) = self.find(&rtnl, name)? else { return Ok(None) };
        let seen = match read(name, &link, cache) {
            Err(Error::NotFound(_)) => return Ok(None),
            seen => seen?,
        };
        let addresses = device::addresses(&rtnl, link.index).or_absent()?.unwrap_or_default();
        Ok(Some(DeviceStatus {
            name: name.clone(),
            public_key: seen.public_key(),
            listen_port: seen.listen_port,
            mtu: bytes(link.mtu),
            addresses,
            peers: Arc::new(seen.peers.iter().map(|(key, peer)| peer.status(*key)).collect()),
            dropped: BTreeMap::new(),
        }))
    }

    /// Applies the changes, all or none.
    pub(crate) fn change_peers(
        &self,
        name: &LinkName,
        changes: &[PeerChange],
        cache: &mut Option<PeerCache>,
    ) -> Result<()> {
        let rtnl = self.rtnl()?;
        let link = self.find(&rtnl, name)?.ok_or_else(|| Error::NotFound(format!("WireGuard device {name}")))?;
        if cache.as_ref().is_none_or(|cache| cache.index != link.index) {
            read(name, &link, cache)?;
        }
        let Some(known) = cache else { return Err(Error::NotFound(format!("WireGuard device {name}"))) };
        check_peer_changes(known.own.as_ref(), changes)?;
        let batch = ChangeBatch::new(known, changes);
        let outcome = control::carry_out(name, &batch.steps).and_then(|()| still_there(&rtnl, &link));
        if outcome.is_err() {
            *cache = None;
            withdraw(&rtnl, &link, name, &batch.undo);
        }
        outcome
    }

    /// Removes the device.
    pub(crate) fn remove(&self, name: &LinkName, cache: &mut Option<PeerCache>) -> Result<()> {
        *cache = None;
        let rtnl = self.rtnl()?;
        if let Some(link) = self.find(&rtnl, name)? {
            self.redirects.restore(&rtnl, &self.mark, &link)?;
            rtnl.run(request::delete(link.index)).or_absent()?;
            tracing::info!(device = %name, "the device is removed");
        }
        self.release_managers(&rtnl);
        Ok(())
    }

    fn release_managers(&self, rtnl: &Rtnl) {
        if let Some(managers) = &self.managers {
            managers.release(rtnl);
        }
    }

    /// The network managers know before the device appears that they must leave it alone.
    fn make_alone(&self, rtnl: &Rtnl, plan: &DevicePlan, mtu: u16) -> Result<DeviceInfo> {
        if let Some(managers) = &self.managers {
            managers.keep_off();
        }
        let made = self.make(rtnl, plan, mtu);
        if made.is_err() {
            self.release_managers(rtnl);
        }
        made
    }

    fn find(&self, rtnl: &Rtnl, name: &LinkName) -> Result<Option<Link>> {
        Ok(rtnl.link(name.as_str())?.filter(|link| self.mark.is_on(link)))
    }

    /// A failure leaves nothing behind.
    fn make(&self, rtnl: &Rtnl, plan: &DevicePlan, mtu: u16) -> Result<DeviceInfo> {
        rtnl.run(self.mark.creation(plan.name.as_str())).map_err(|error| match error.errno() {
            Some(Errno::OPNOTSUPP) => Error::Unsupported {
                what: "WireGuard in the kernel".to_owned(),
                reason: format!("{error}; load the module (modprobe wireguard) or choose `wireguard = \"userspace\"`"),
            },
            Some(Errno::EXIST) => Error::Conflict {
                what: format!("interface {}", plan.name),
                by: "one that was made at this moment".to_owned(),
            },
            _ => error.into(),
        })?;
        let link = rtnl.link(plan.name.as_str())?;
        let link = link.ok_or_else(|| Error::NotFound(format!("interface {}, just made,", plan.name)))?;
        let outcome = self.equip(rtnl, &link, plan, mtu);
        match &outcome {
            Ok(info) => {
                tracing::info!(device = %info.name, port = info.listen_port, mtu = info.mtu, "the device is up");
            }
            Err(_) => drop(rtnl.run(request::delete(link.index)).or_absent()?),
        }
        outcome
    }

    fn equip(&self, rtnl: &Rtnl, link: &Link, plan: &DevicePlan, mtu: u16) -> Result<DeviceInfo> {
        rtnl.run_all(self.mark.completion(link.index))?;
        let private_key = Some(plan.private_key.clone());
        let listen_port = (plan.listen_port != 0).then_some(plan.listen_port);
        control::configure(&plan.name, &DeviceSettings { private_key, listen_port, fwmark: self.fwmark })?;
        still_there(rtnl, link)?;
        self.configure_link(rtnl, link, plan, mtu)?;
        Ok(info(plan, mtu, control::read(&plan.name)?.listen_port))
    }

    /// Changes what differs, first what the host may refuse.
    fn adapt(
        &self,
        rtnl: &Rtnl,
        link: &Link,
        plan: &DevicePlan,
        mtu: u16,
        cache: &mut Option<PeerCache>,
    ) -> Result<DeviceInfo> {
        if self.mark.is_unfinished(link) {
            rtnl.run_all(self.mark.completion(link.index))?;
        }
        let seen = read(&plan.name, link, cache)?;
        // By their public halves: the kernel fixes some bits of a private key, and being told the same one again without
        // them would end all sessions.
        let other_key = seen.public_key() != Some(plan.private_key.public_key());
        let other_port = ![0, seen.listen_port].contains(&plan.listen_port);
        let settings = DeviceSettings {
            private_key: other_key.then(|| plan.private_key.clone()),
            listen_port: other_port.then_some(plan.listen_port),
            fwmark: self.fwmark.filter(|mark| *mark != seen.fwmark),
        };
        control::configure(&plan.name, &settings)?;
        still_there(rtnl, link)?;
        if other_key {
            // A peer of that key is no peer any longer.
            *cache = None;
        }
        self.configure_link(rtnl, link, plan, mtu)?;
        // One that was down chooses its port when it comes up.
        let port = if link.up {
            settings.listen_port.unwrap_or(seen.listen_port)
        } else {
            control::read(&plan.name)?.listen_port
        };
        Ok(info(plan, mtu, port))
    }

    fn configure_link(&self, rtnl: &Rtnl, link: &Link, plan: &DevicePlan, mtu: u16) -> Result<()> {
        let wanted = LinkPlan { addresses: &plan.addresses, routes: &plan.routes, mtu };
        let configure = || {
            device::configure(rtnl, link, &wanted).map_err(|error| match error.errno() {
                // Coming up binds the port.
                Some(Errno::ADDRINUSE) => device::port_taken(plan.listen_port),
                _ => error.into(),
            })
        };
        self.redirects.keep(rtnl, &self.mark, link, configure)
    }
}

/// Reads the device and notes it in the cache.
fn read(name: &LinkName, link: &Link, cache: &mut Option<PeerCache>) -> Result<DeviceState> {
    let mut seen = control::read(name)?;
    if seen.peers.remove(&PARKING_PEER).is_some() {
        control::carry_out(name, &[KernelStep::Remove(PARKING_PEER)])?;
    }
    *cache = Some(seen.cache(link.index));
    Ok(seen)
}

/// Whether the changes went to the device that was looked up. Where that is gone, `wireguard-control` makes another one,
/// without our mark: that one is removed.
fn still_there(rtnl: &Rtnl, link: &Link) -> Result<()> {
    let now = rtnl.link(link.name.as_str())?;
    match now {
        Some(now) if now.index == link.index => Ok(()),
        Some(now) if now.is_kind("wireguard") && now.alias.is_none() && now.group == 0 && !now.up => {
            rtnl.run(request::delete(now.index)).or_absent()?;
            Err(Error::NotFound(format!("WireGuard device {}", link.name)))
        }
        _ => Err(Error::NotFound(format!("WireGuard device {}", link.name))),
    }
}

/// After a failed batch. What cannot be withdrawn is told, and the caller learns of the first failure.
fn withdraw(rtnl: &Rtnl, link: &Link, name: &LinkName, undo: &[KernelStep]) {
    match rtnl.link(link.index) {
        Ok(None) => {}
        Ok(Some(_)) => {
            if let Err(error) = control::carry_out(name, undo).and_then(|()| still_there(rtnl, link)) {
                tracing::error!(device = %name, %error, "a refused change of peers could not be withdrawn");
            }
        }
        Err(error) => tracing::error!(device = %name, %error, "a refused change of peers could not be withdrawn"),
    }
}

fn info(plan: &DevicePlan, mtu: u16, listen_port: u16) -> DeviceInfo {
    DeviceInfo { name: plan.name.clone(), public_key: plan.private_key.public_key(), listen_port, mtu }
}

fn bytes(mtu: u32) -> u16 {
    u16::try_from(mtu).unwrap_or(u16::MAX)
}
