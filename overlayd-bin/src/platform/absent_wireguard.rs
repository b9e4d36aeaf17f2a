//! Stands in for a backend that is not in this binary: it says so to everything it is asked to make, and has nothing
//! that could be observed or removed.

use async_trait::async_trait;
use overlayd_core::{
    contract::{
        AttachPlan, Attached, Attacher, AttachmentId, DeviceInfo, DevicePlan, DeviceStatus, Error, HostNetworks,
        NetworkInfo, NetworkName, NetworkPlan, OverlayBackend, PeerChange, Result,
    },
    names::LinkName,
};

/// No backend.
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

#[async_trait]
impl Attacher for AbsentWireGuard {
    fn name(&self) -> &'static str {
        "none"
    }

    async fn ensure_network(&self, plan: &NetworkPlan) -> Result<NetworkInfo> {
        Self::refusal(format!("the network {}", plan.name))
    }

    async fn remove_network(&self, _: &NetworkName) -> Result<()> {
        Ok(())
    }

    async fn attach(&self, plan: &AttachPlan) -> Result<Attached> {
        Self::refusal(format!("attaching {}", plan.id))
    }

    async fn detach(&self, _: &AttachmentId) -> Result<()> {
        Ok(())
    }

    async fn observe(&self) -> Result<HostNetworks> {
        Ok(HostNetworks::default())
    }
}
