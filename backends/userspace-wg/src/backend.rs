use std::sync::Arc;

use async_trait::async_trait;
use overlayd_core::{
    contract::{DeviceInfo, DevicePlan, DeviceStatus, Error, OverlayBackend, PeerChange, Result},
    names::LinkName,
};
use tokio::sync::Mutex;

use crate::{
    Config,
    registry::{DeviceRegistry, ExportedDevice, HandoverResult},
};

/// WireGuard devices in this process.
///
/// Dropping it ends them: the interfaces vanish or stay as [`Config::at_exit`] says, and the control sockets go.
pub struct UserspaceWg {
    devices: Arc<DeviceRegistry>,
    /// Calls that make or remove devices run one after the other, even where their caller has given up.
    making: Arc<Mutex<()>>,
}

impl UserspaceWg {
    /// No devices yet; they are made in the network namespace of the caller's threads.
    pub fn new(config: Config) -> Self {
        Self { devices: Arc::new(DeviceRegistry::new(config)), making: Arc::default() }
    }

    /// Prepares all devices to be taken over by another process, which is given the result; until that happens they
    /// work as before, but for their control sockets.
    pub async fn lend(&self) -> Result<Vec<ExportedDevice>> {
        self.in_turn(DeviceRegistry::export).await
    }

    /// Waits until every device that was lent is the other process's, or that one is gone; says which.
    pub async fn lent(&self) -> Result<HandoverResult> {
        let devices = self.devices.clone();
        aside(move || Ok(devices.await_handover())).await
    }

    /// Takes back what was lent to a process that is gone.
    pub async fn reclaim(&self) -> Result<()> {
        self.in_turn(DeviceRegistry::abort_handover).await
    }

    /// Takes devices from an older process: each when it is asked for.
    pub fn inherit(&self, lent: Vec<ExportedDevice>) -> Result<()> {
        self.devices.inherit(lent)
    }

    /// Does `work` where it may wait for the host; a caller that gives up does not interrupt it.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&DeviceRegistry) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = self.making.clone().lock_owned().await;
        let devices = self.devices.clone();
        aside(move || {
            let outcome = work(&devices);
            drop((devices, turn));
            outcome
        })
        .await
    }
}

async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::host("work on a WireGuard device", std::io::Error::other(error))))
}

#[async_trait]
impl OverlayBackend for UserspaceWg {
    fn name(&self) -> &'static str {
        "userspace-wg"
    }

    async fn ensure_device(&self, plan: &DevicePlan) -> Result<DeviceInfo> {
        let plan = plan.clone();
        self.in_turn(move |devices| devices.ensure(&plan)).await
    }

    async fn change_peers(&self, device: &LinkName, changes: &[PeerChange]) -> Result<()> {
        self.devices.change_peers(device, changes)
    }

    async fn observe(&self) -> Result<Vec<DeviceStatus>> {
        let devices = self.devices.clone();
        aside(move || devices.observe()).await
    }

    async fn remove_device(&self, device: &LinkName) -> Result<()> {
        let device = device.clone();
        self.in_turn(move |devices| devices.remove(&device)).await
    }
}
