//! Stands in for WireGuard where this binary and the kernel have none: it refuses to make a device, and has none to be
//! observed or removed.

use async_trait::async_trait;
use overlayd_core::{
    contract::{DeviceInfo, DevicePlan, DeviceStatus, Error, OverlayBackend, PeerChange, Result},
    names::LinkName,
};

/// No WireGuard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AbsentWireGuard;

impl AbsentWireGuard {
    fn refusal<T>(what: impl Into<String>) -> Result<T> {
        let reason = "this binary was built without a backend for it; see the features of the overlayd package".into();
        Err(Error::Unsupported { what: what.into(), reason })
    }
}

#[async_trait]
impl OverlayBackend for AbsentWireGuard {
    fn name(&self) -> &'static str {
        "none"
    }

    async fn ensure_device(&self, plan: &DevicePlan) -> Result<DeviceInfo> {
        Self::refusal(format!("the WireGuard device {}", plan.name))
    }

    async fn change_peers(&self, device: &LinkName, _: &[PeerChange]) -> Result<()> {
        Self::refusal(format!("a peer of {device}"))
    }

    async fn observe(&self) -> Result<Vec<DeviceStatus>> {
        Ok(Vec::new())
    }

    async fn remove_device(&self, _: &LinkName) -> Result<()> {
        Ok(())
    }
}
