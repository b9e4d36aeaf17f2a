//! What services have on the host: the network that their containers plug into, and the device of a dedicated service.

use std::sync::Arc;

use super::{Error, context::Context, global_device::GlobalDevice, locks::OverlayHeld, peer_sync::PeerSync};
use crate::{
    desired::{Change, DeviceScope, SHARED_SERVICE, ServiceRecord},
    names::LinkName,
    plan,
    protocol::OverlayMode,
};

/// The networks and devices of services.
#[derive(Debug)]
pub(super) struct ServiceNetworks {
    context: Arc<Context>,
    global: Arc<GlobalDevice>,
    peers: Arc<PeerSync>,
}

impl ServiceNetworks {
    pub(super) fn new(context: &Arc<Context>, global: &Arc<GlobalDevice>, peers: &Arc<PeerSync>) -> Self {
        Self { context: Arc::clone(context), global: Arc::clone(global), peers: Arc::clone(peers) }
    }

    /// Makes the network of a service be as recorded. A service that is gone needs none.
    pub(super) async fn ensure_network(&self, name: &str) -> Result<(), Error> {
        let plan = {
            let desired = self.context.ledger.desired();
            let Some(service) = desired.service(name) else { return Ok(()) };
            plan::network(&desired, service, self.global.mtu())
        };
        let info = self.context.host.networks.ensure(&plan).await?;
        // Some hosts give a network its identity when it is made, and find it again by nothing else. Others give
        // none.
        if info.guid == plan.guid {
            return Ok(());
        }
        self.context
            .ledger
            .record(|desired| {
                let Some(known) = desired.service(name).cloned() else { return Ok(vec![]) };
                Ok(vec![Change::Service(name.to_owned(), Some(ServiceRecord { guid: info.guid, ..known }))])
            })
            .await
    }

    /// Makes the device of a dedicated service be as recorded, with a route to every range of its peers.
    pub(super) async fn ensure_device(&self, name: &str) -> Result<(), Error> {
        let key = self.context.identity.service_key(name)?;
        let plan = {
            let desired = self.context.ledger.desired();
            let Some(service) = desired.service(name) else { return Ok(()) };
            let Some(dedicated) = &service.dedicated else { return Ok(()) };
            plan::dedicated_device(&desired, name, service, dedicated, key)
        };
        self.context.host.devices.ensure(&plan).await.map(drop)
    }

    /// Device first, then its peers, then the bridge in front of it.
    pub(super) async fn bring_up_dedicated(&self, name: &str) -> Result<(), Error> {
        self.ensure_device(name).await?;
        self.peers.reconcile(&DeviceScope::service(name)).await?;
        self.ensure_network(name).await
    }

    pub(super) async fn remove_device(&self, name: &str, device: &LinkName) -> Result<(), Error> {
        // Before the device goes: if removing it fails half-way, the next set-up tells it everything.
        self.peers.forget_device(name);
        self.context.host.devices.remove(device).await
    }

    /// Makes the devices of dedicated services and all networks be as recorded.
    pub(super) async fn reconcile(&self, overlay: &mut OverlayHeld<'_>) -> Result<(), Error> {
        // By name, not by record: each is read again under its lock, as it may be set up or removed in between.
        let services: Vec<(String, OverlayMode)> = {
            let desired = self.context.ledger.desired();
            desired.services().iter().map(|(name, service)| (name.clone(), service.mode)).collect()
        };
        for (name, mode) in services {
            self.reconcile_service(overlay, &name, mode).await?;
        }
        Ok(())
    }

    async fn reconcile_service(
        &self,
        overlay: &mut OverlayHeld<'_>,
        name: &str,
        mode: OverlayMode,
    ) -> Result<(), Error> {
        let _service = self.context.locks.service_shared(overlay, name).await;
        match mode {
            OverlayMode::Dedicated => self.bring_up_dedicated(name).await,
            // A service on the shared bridge has no network of its own.
            OverlayMode::Shared if name != SHARED_SERVICE => Ok(()),
            OverlayMode::Shared | OverlayMode::Auto | OverlayMode::Isolated => self.ensure_network(name).await,
        }
    }
}
