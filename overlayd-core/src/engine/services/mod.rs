//! Services: set up by a request, removed by another one or with the last of their ephemeral containers.

mod bridge;
mod dedicated;
mod prune;

use std::sync::Arc;

use super::{
    Error,
    attachments::AttachmentPlugger,
    context::Context,
    locks::{Entered, ServiceHeld},
    networks::ServiceNetworks,
};
use crate::{
    contract::AttachmentId,
    desired::{Change, DeviceScope, Lifetime, SHARED_SERVICE, ServiceRecord},
    ipam::first_host,
    protocol::{OverlayMode, Response, ServiceOverlayInfo},
};

/// The services of this node.
#[derive(Debug)]
pub(super) struct Services {
    context: Arc<Context>,
    networks: Arc<ServiceNetworks>,
    plugger: Arc<AttachmentPlugger>,
}

impl Services {
    pub(super) fn new(
        context: &Arc<Context>,
        networks: &Arc<ServiceNetworks>,
        plugger: &Arc<AttachmentPlugger>,
    ) -> Self {
        Self { context: Arc::clone(context), networks: Arc::clone(networks), plugger: Arc::clone(plugger) }
    }

    pub(super) async fn set_up(
        &self,
        entered: &mut Entered<'_>,
        name: String,
        mode: OverlayMode,
    ) -> Result<Response, Error> {
        let mut bridge = match mode {
            // They have a bridge in common, so they are set up one at a time.
            OverlayMode::Shared => self.context.locks.shared_bridge(entered).await,
            OverlayMode::Auto | OverlayMode::Dedicated | OverlayMode::Isolated => {
                self.context.locks.no_shared_bridge(entered)
            }
        };
        let mut service = self.context.locks.service(&mut bridge, &name).await;
        // Before anything is decided: the block and the network of the other mode have to be free for the new one.
        self.leave_other_mode(&mut service, &name, mode).await?;
        let record = match mode {
            OverlayMode::Auto | OverlayMode::Isolated => self.set_up_bridge(&name, mode).await?,
            OverlayMode::Shared => self.set_up_shared(&name).await?,
            OverlayMode::Dedicated => self.set_up_dedicated(&name).await?,
        };
        tracing::info!(service = name, ?mode, network = %record.network, "a service is set up");
        Ok(Response::ServiceOverlay(info(&record)))
    }

    pub(super) async fn tear_down(&self, entered: &mut Entered<'_>, name: &str) -> Result<Response, Error> {
        let mut service = self.context.locks.service(entered, name).await;
        self.remove(&mut service, name).await?;
        Ok(Response::Ok)
    }

    /// Removes the service if its last container has left it for good, unless another one has joined since.
    pub(super) async fn remove_if_left(&self, entered: &mut Entered<'_>, name: &str) -> Result<(), Error> {
        let mut service = self.context.locks.service(entered, name).await;
        // Asked again under the lock: a container may have joined since the last one left.
        let is_left = {
            let desired = self.context.ledger.desired();
            let left = desired.service(name).is_some_and(|service| service.lifetime == Lifetime::Left);
            left && desired.members(name).next().is_none()
        };
        if is_left { self.remove(&mut service, name).await } else { Ok(()) }
    }

    /// Removes all services whose last container has left them for good. Returns what could not be removed.
    pub(super) async fn remove_left(&self, entered: &mut Entered<'_>) -> Vec<(String, Error)> {
        let left: Vec<String> = {
            let desired = self.context.ledger.desired();
            let left = desired.services().iter().filter(|(_, service)| service.lifetime == Lifetime::Left);
            left.map(|(name, _)| name.clone()).collect()
        };
        let mut failures = Vec::new();
        for name in left {
            if let Err(error) = self.remove_if_left(entered, &name).await {
                failures.push((name, error));
            }
        }
        failures
    }

    /// Detaches what is attached, then removes what the host has of it, then forgets.
    async fn remove(&self, held: &mut ServiceHeld<'_>, name: &str) -> Result<(), Error> {
        let Some(service) = self.context.ledger.desired().service(name).cloned() else { return Ok(()) };
        let members: Vec<AttachmentId> = self.context.ledger.desired().members(name).cloned().collect();
        for handle in members {
            // Another request may be about to plug it in again, if only to find that it asks for another service.
            let _attachment = self.context.locks.attachment(held, &handle).await;
            self.plugger.unplug(&handle).await?;
        }
        // The shared bridge stays for the others, until a teardown removes it with everything else.
        if service.mode != OverlayMode::Shared || name == SHARED_SERVICE {
            self.context.host.networks.remove(&service.network).await?;
        }
        if let Some(dedicated) = &service.dedicated {
            self.networks.remove_device(name, &dedicated.device).await?;
        }
        self.context
            .ledger
            .record(|desired| {
                // Peers of a dedicated device go with it: a service that is set up anew under the same name starts
                // without.
                let peers = desired.peers_of(DeviceScope::service(name)).map(|(id, _)| Change::Peer(id.clone(), None));
                Ok(peers.chain([Change::Service(name.to_owned(), None)]).collect())
            })
            .await?;
        tracing::info!(service = name, network = %service.network, "a service is removed");
        Ok(())
    }

    /// A service without members changes its mode by being set up anew; one with members does not.
    async fn leave_other_mode(&self, held: &mut ServiceHeld<'_>, name: &str, mode: OverlayMode) -> Result<(), Error> {
        let (known, members) = {
            let desired = self.context.ledger.desired();
            let Some(service) = desired.service(name) else { return Ok(()) };
            (service.mode, desired.members(name).count())
        };
        if known == mode {
            return Ok(());
        }
        if members > 0 {
            return Err(Error::Conflict(format!(
                "service {name} is set up as {} and has {members} members; detach them before setting it up as {}",
                mode_name(known),
                mode_name(mode),
            )));
        }
        self.remove(held, name).await
    }
}

fn info(record: &ServiceRecord) -> ServiceOverlayInfo {
    let dedicated = record.dedicated.as_ref();
    ServiceOverlayInfo {
        name: record.network.0.clone(),
        // The published client knows the isolated mode by what it asked for, and expects to read `auto` here.
        mode: if record.mode == OverlayMode::Isolated { OverlayMode::Auto } else { record.mode },
        wg_public_key: dedicated.map(|dedicated| dedicated.public_key.to_base64()),
        wg_port: dedicated.map(|dedicated| dedicated.port),
        overlay_ip: dedicated.map(|_| first_host(&record.block)),
        subnet: dedicated.map(|_| record.block.to_string()),
    }
}

fn mode_name(mode: OverlayMode) -> &'static str {
    match mode {
        OverlayMode::Auto => "auto",
        OverlayMode::Shared => "shared",
        OverlayMode::Dedicated => "dedicated",
        OverlayMode::Isolated => "isolated",
    }
}
