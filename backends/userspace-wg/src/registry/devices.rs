use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use ipnet::IpNet;
use overlayd_core::{
    contract::{DeviceInfo, DevicePlan, DeviceStatus, Error, PeerChange, Result},
    names::LinkName,
    sync::lock,
};

use super::{
    make, peers,
    plan::{self, ResolvedPlan},
    running::{InheritedState, RunningDevice},
};
use crate::{Config, handover::ReceivedDevice, io::interfaces::HostInterfaces, uapi};

/// The devices of this process.
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

    /// Makes the device be as planned.
    pub(crate) fn ensure(&self, plan: &DevicePlan) -> Result<DeviceInfo> {
        plan::check(plan)?;
        let interfaces = HostInterfaces::here(&self.config.own_changes)?;
        interfaces.check_overlaps(plan)?;
        let plan = ResolvedPlan { plan, mtu: interfaces.mtu(plan)? };
        let present = self.map().get(&plan.plan.name).cloned();
        let inherited = match present {
            Some(device) if device.is_well(&interfaces)? => {
                device.reconfigure(&interfaces, &plan)?;
                return Ok(device.info(&plan));
            }
            Some(device) => {
                tracing::warn!(device = %plan.plan.name, "the device is gone or has failed; it is made again");
                self.map().remove(&plan.plan.name);
                device.inherited_state()
            }
            None => InheritedState::default(),
        };
        // Before the interface is there: a network manager would otherwise configure it the moment it appears.
        if let Some(managers) = &self.config.managers {
            managers.keep_off();
        }
        let received = self.received().remove(&plan.plan.name);
        let made = match received {
            Some(received) => make::take_over(&interfaces, &self.config, &plan, received),
            None => make::make(&interfaces, &self.config, &plan, &inherited),
        };
        if made.is_err() {
            interfaces.release(self.config.managers.as_ref());
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
        peers::change(&device.shared, device.new_peers, changes)
    }

    /// The devices of this process that work, and the interfaces that an earlier process of this instance has left.
    pub(crate) fn observe(&self) -> Result<Vec<DeviceStatus>> {
        let running: Vec<Arc<RunningDevice>> = self.map().values().cloned().collect();
        let interfaces = HostInterfaces::here(&self.config.own_changes)?;
        let mut seen = Vec::new();
        for found in interfaces.tunnels()? {
            if !found.is_ours(&self.config.instance) {
                continue;
            }
            let Ok(name) = LinkName::new(found.name().to_owned()) else { continue };
            let addresses = interfaces.addresses(&found)?;
            // By number, not by name: an interface that was deleted and made again by another program is not this one.
            match running.iter().find(|device| device.index == found.index()) {
                Some(device) if device.shared.failure().is_none() => {
                    seen.push(device.status(name, found.mtu(), addresses));
                }
                // Reported when it failed. Left out here, so that a comparison with the plan makes it again.
                Some(_) => {}
                None => seen.push(leftover(name, found.mtu(), addresses)),
            }
        }
        Ok(seen)
    }

    /// Removes the device, whether of this process or left by an earlier one.
    pub(crate) fn remove(&self, name: &LinkName) -> Result<()> {
        let running = self.map().remove(name);
        let was_running = running.is_some();
        // Its threads end before the interface goes, and do not report that it went.
        drop(running);
        let interfaces = HostInterfaces::here(&self.config.own_changes)?;
        match interfaces.named(name)? {
            Some(found) if found.is_ours(&self.config.instance) => interfaces.delete(&found)?,
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
        interfaces.release(self.config.managers.as_ref());
        Ok(())
    }

    pub(super) fn received(&self) -> MutexGuard<'_, BTreeMap<LinkName, ReceivedDevice>> {
        lock(&self.received)
    }

    pub(super) fn map(&self) -> MutexGuard<'_, BTreeMap<LinkName, Arc<RunningDevice>>> {
        lock(&self.running)
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
