//! The backend: each call runs on a thread that may block, one call per device at a time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use overlayd_core::{
    contract::{DeviceInfo, DevicePlan, DeviceStatus, OverlayBackend, PeerChange, Result},
    names::LinkName,
    sync::{lock, run_blocking},
};
use tokio::sync::OwnedMutexGuard;

use crate::{config::Config, devices::KernelDevices, peer_cache::PeerCache};

/// What the work of this backend is called in errors.
const WORK: &str = "work on a WireGuard device";

/// WireGuard devices of the kernel. They stay when this is dropped, and the next one of the same instance takes them
/// over.
pub struct KernelWg {
    devices: Arc<KernelDevices>,
    caches: Mutex<BTreeMap<LinkName, Slot>>,
}

/// What is known of a device. Its holder is the only one who works on the device.
type Slot = Arc<tokio::sync::Mutex<Option<PeerCache>>>;

impl KernelWg {
    /// No device is made or touched yet; they live in the network namespace of the caller's threads.
    pub fn new(config: Config) -> Self {
        let devices = KernelDevices::new(config);
        Self { devices: Arc::new(devices), caches: Mutex::default() }
    }

    /// Does `work` on a device where it may wait for the kernel, after all that was asked of this device before. A
    /// caller that gives up does not interrupt it.
    async fn in_turn<T: Send + 'static>(
        &self,
        device: &LinkName,
        work: impl FnOnce(&KernelDevices, &mut Option<PeerCache>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let slot = lock(&self.caches).entry(device.clone()).or_default().clone();
        let mut cache: OwnedMutexGuard<_> = slot.lock_owned().await;
        let devices = self.devices.clone();
        run_blocking(WORK, move || work(&devices, &mut cache)).await
    }
}

#[async_trait]
impl OverlayBackend for KernelWg {
    fn name(&self) -> &'static str {
        "kernel-wg"
    }

    async fn ensure_device(&self, plan: &DevicePlan) -> Result<DeviceInfo> {
        let wanted = plan.clone();
        self.in_turn(&plan.name, move |devices, cache| devices.ensure(&wanted, cache)).await
    }

    async fn change_peers(&self, device: &LinkName, changes: &[PeerChange]) -> Result<()> {
        let (name, changes) = (device.clone(), changes.to_vec());
        self.in_turn(device, move |devices, cache| devices.change_peers(&name, &changes, cache)).await
    }

    async fn observe(&self) -> Result<Vec<DeviceStatus>> {
        let devices = self.devices.clone();
        let mut seen = Vec::new();
        for name in run_blocking(WORK, move || devices.names()).await? {
            let wanted = name.clone();
            seen.extend(self.in_turn(&name, move |devices, cache| devices.observe(&wanted, cache)).await?);
        }
        Ok(seen)
    }

    async fn remove_device(&self, device: &LinkName) -> Result<()> {
        let name = device.clone();
        self.in_turn(device, move |devices, cache| devices.remove(&name, cache)).await
    }
}
