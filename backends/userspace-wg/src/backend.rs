use std::sync::Arc;

use async_trait::async_trait;
use overlayd_core::{
    contract::{
        DeviceInfo, DevicePlan, DeviceStatus, Handover, HandoverOutcome, HandoverPart, OverlayBackend, PeerChange,
        Result,
    },
    names::LinkName,
    sync::run_blocking,
};
use tokio::sync::Mutex;

use crate::{Config, registry::DeviceRegistry};

/// What the work is called where it fails by a panic.
const WORK: &str = "work on a WireGuard device";

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

    /// Does `work` where it may wait for the host; a caller that gives up does not interrupt it.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&DeviceRegistry) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = self.making.clone().lock_owned().await;
        let devices = self.devices.clone();
        run_blocking(WORK, move || {
            let outcome = work(&devices);
            // The registry first: if the backend is gone by now, its devices end before the next call begins.
            drop(devices);
            drop(turn);
            outcome
        })
        .await
    }
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
        run_blocking(WORK, move || devices.observe()).await
    }

    async fn remove_device(&self, device: &LinkName) -> Result<()> {
        let device = device.clone();
        self.in_turn(move |devices| devices.remove(&device)).await
    }

    fn handover(&self) -> Option<&dyn Handover> {
        Some(self)
    }
}

#[async_trait]
impl Handover for UserspaceWg {
    async fn prepare(&self) -> Result<Vec<HandoverPart>> {
        self.in_turn(DeviceRegistry::prepare_handover).await
    }

    async fn complete(&self) -> Result<HandoverOutcome> {
        // Not in turn: it lasts as long as the successor needs, and `abort` must not queue behind it.
        let devices = self.devices.clone();
        run_blocking(WORK, move || Ok(devices.complete_handover())).await
    }

    async fn abort(&self) -> Result<()> {
        self.in_turn(DeviceRegistry::abort_handover).await
    }

    async fn inherit(&self, parts: Vec<HandoverPart>) -> Result<()> {
        self.devices.inherit(parts)
    }
}
