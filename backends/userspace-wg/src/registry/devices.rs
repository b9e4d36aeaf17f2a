use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{handover::ReceivedDevice, make, peers, running::RunningDevice};
use ipnet::IpNet;
use overlayd_core::{
    contract::{DeviceInfo, DevicePlan, DeviceStatus, Error, PeerChange, Result},
    names::LinkName,
};
use overlayd_netlink::{OrAbsent, Rtnl, link as request};

use crate::{Config, io::link, uapi};

pub(crate) struct DeviceRegistry {
    pub(super) config: Config,
    running: Mutex<BTreeMap<LinkName, Arc<RunningDevice>>>,
    /// Devices that an older process carries until they are taken over.
    received: Mutex<BTreeMap<LinkName, ReceivedDevice>>,
}

impl DeviceRegistry {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, running: Mutex::default(), received: Mutex::default() }
    }

    /// The routing interface of the calling thread's network namespace.
    fn rtnl(&self) -> Result<Rtnl> {
        Rtnl::noting(self.config.own_changes.clone()).map_err(host)
    }

    /// Makes the device be as planned.
    pub(crate) fn ensure(&self, plan: &DevicePlan) -> Result<DeviceInfo> {
        make::check(plan)?;
        let rtnl = self.rtnl()?;
        make::check_overlaps(&rtnl, plan)?;
        let mtu = link::mtu(&rtnl, plan.mtu, &plan.addresses).map_err(host)?;
        let plan = make::ResolvedPlan { plan, mtu };
        let present = self.map().get(&plan.plan.name).cloned();
        let inherited = match present {
            Some(device) if device.is_well(&rtnl)? => {
                device.reconfigure(&rtnl, &plan)?;
                return Ok(device.info(&plan));
            }
            Some(device) => {
                tracing::warn!(device = %plan.plan.name, "the device is gone or has failed; it is made again");
                self.map().remove(&plan.plan.name);
                device.inherited()
            }
            None => make::InheritedState::default(),
        };
        if let Some(managers) = &self.config.managers {
            managers.keep_off();
        }
        let received = self.received().remove(&plan.plan.name);
        let made = match received {
            Some(received) => make::take_over(&rtnl, &self.config, &plan, received),
            None => make::make(&rtnl, &self.config, &plan, &inherited),
        };
        if made.is_err() {
            self.release_managers(&rtnl);
        }
        let device = Arc::new(made?);
        let info = device.info(&plan);
        tracing::info!(device = %info.name, port = info.listen_port, mtu = info.mtu, "the device is up");
        self.map().insert(plan.plan.name.clone(), device);
        Ok(info)
    }

    /// Applies the changes, all or none.
    pub(crate) fn change_peers(&self, name: &LinkName, changes: &[PeerChange]) -> Result<()> {
        let device = self.map().get(name).cloned();
        let device = device.ok_or_else(|| Error::NotFound(format!("WireGuard device {name}")))?;
        device.check()?;
        peers::change(&device.shared, device.newcomers, changes)
    }

    /// The devices of this process that work, and the interfaces that an earlier process of ours has left.
    pub(crate) fn observe(&self) -> Result<Vec<DeviceStatus>> {
        let running: Vec<(LinkName, Arc<RunningDevice>)> =
            self.map().iter().map(|(name, device)| (name.clone(), device.clone())).collect();
        let rtnl = self.rtnl()?;
        let mut seen = Vec::new();
        for found in rtnl.links_of("tun").map_err(host)? {
            let device = running.iter().find(|(_, device)| device.index == found.index);
            if !link::is_ours(&found, &self.config.instance) {
                continue;
            }
            let Ok(name) = LinkName::new(found.name.clone()) else { continue };
            let addresses = link::addresses(&rtnl, found.index).or_absent().map_err(host)?.unwrap_or_default();
            let mtu = u16::try_from(found.mtu).unwrap_or(u16::MAX);
            match device {
                Some((_, device)) if device.shared.failure().is_none() => {
                    seen.push(device.status(name, mtu, addresses));
                }
                // Reported when it failed; left out here, so that whoever compares with a plan makes it again.
                Some(_) => {}
                None => seen.push(leftover(name, mtu, addresses)),
            }
        }
        Ok(seen)
    }

    /// Removes the device, whether of this process or left by an earlier one.
    pub(crate) fn remove(&self, name: &LinkName) -> Result<()> {
        let running = self.map().remove(name);
        let was_running = running.is_some();
        drop(running);
        let rtnl = self.rtnl()?;
        match rtnl.link(name.as_str()).map_err(host)? {
            Some(found) if link::is_ours(&found, &self.config.instance) => {
                rtnl.run(request::delete(found.index)).or_absent().map_err(host)?;
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let path = uapi::socket_path(&self.config.uapi_dir, name);
        uapi::remove_stale(&path).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Ok(()),
            _ => Err(Error::host(format!("remove control socket {}", path.display()), error)),
        })?;
        if was_running {
            tracing::info!(device = %name, "the device is removed");
        }
        self.release_managers(&rtnl);
        Ok(())
    }

    fn release_managers(&self, rtnl: &Rtnl) {
        if let Some(managers) = &self.config.managers {
            managers.release(rtnl);
        }
    }

    pub(super) fn received(&self) -> MutexGuard<'_, BTreeMap<LinkName, ReceivedDevice>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn map(&self) -> MutexGuard<'_, BTreeMap<LinkName, Arc<RunningDevice>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn leftover(name: LinkName, mtu: u16, addresses: Vec<IpNet>) -> DeviceStatus {
    DeviceStatus {
        name,
        public_key: None,
        listen_port: 0,
        mtu,
        addresses,
        peers: Arc::default(),
        dropped: BTreeMap::new(),
    }
}

pub(super) fn host(error: overlayd_netlink::Error) -> Error {
    let present = error.is_present();
    let (action, source) = error.into_parts();
    if present {
        let what = action.strip_prefix("add ").unwrap_or(&action).to_owned();
        return Error::Conflict { what, by: "somebody else on this host".to_owned() };
    }
    Error::host(action, source)
}
