//! Start-up: adopt what is ours, finish or withdraw what was half done, remove what nobody asked for.

use std::collections::BTreeSet;

use super::{Engine, Error};
use crate::{
    contract::AttachmentId,
    desired::{Desired, Handle},
    names::LinkName,
};

impl Engine {
    /// Brings the host in line with the records. What cannot be done now is logged and left to a repeated request: a
    /// daemon that answers can be asked why.
    pub(super) async fn converge(&self) {
        self.refence().await;
        let overlay = self.desired().overlay().cloned();
        let steps = [
            (
                "the overlay",
                match &overlay {
                    Some(overlay) => self.bring_up(overlay).await,
                    None => self.ensure_all_networks().await,
                },
            ),
            ("leftover attachments and networks", self.remove_strangers().await),
            ("leftover devices", self.remove_stray_devices().await),
        ];
        for (what, outcome) in steps {
            if let Err(error) = outcome {
                tracing::error!(%error, "{what} could not be brought in line with the state");
            }
        }
        if let Err(error) = self.forget_stray_guest_keys() {
            tracing::error!(%error, "the key of a guest that is gone could not be removed");
        }
        let handles: Vec<Handle> = self.desired().attachments().keys().cloned().collect();
        for handle in handles {
            match self.replug(&handle).await {
                Ok(Some(record)) => tracing::debug!(%handle, ip = %record.service_ip, "a container is still attached"),
                Ok(None) => tracing::info!(%handle, "a container that is gone was detached"),
                Err(error) => tracing::error!(%handle, %error, "a container could not be attached again"),
            }
        }
        self.remove_left_services().await;
        self.observe().await;
    }

    /// Removes attachments and networks with our mark that no record speaks of.
    async fn remove_strangers(&self) -> Result<(), Error> {
        let observed = self.host.observe_networks().await?;
        let (ids, networks) = known(&self.desired());
        for attachment in observed.attachments.iter().filter(|attachment| !ids.contains(&attachment.id)) {
            tracing::info!(id = %attachment.id, "an attachment that nobody asked for is removed");
            self.host.detach(&attachment.id).await?;
        }
        for network in observed.networks.iter().filter(|network| !networks.contains(&network.name.0)) {
            tracing::info!(network = %network.name, "a network that nobody asked for is removed");
            self.host.remove_network(&network.name).await?;
        }
        Ok(())
    }

    async fn remove_stray_devices(&self) -> Result<(), Error> {
        let kept: BTreeSet<LinkName> = {
            let desired = self.desired();
            let dedicated = desired.services().values().filter_map(|service| service.dedicated.as_ref());
            let global = desired.overlay().map(|overlay| &overlay.device);
            dedicated.map(|dedicated| &dedicated.device).chain(global).cloned().collect()
        };
        for device in self.host.observe_devices().await?.into_iter().filter(|device| !kept.contains(&device.name)) {
            tracing::info!(device = %device.name, "a device that nobody asked for is removed");
            self.host.remove_device(&device.name).await?;
        }
        Ok(())
    }
}

fn known(desired: &Desired) -> (BTreeSet<AttachmentId>, BTreeSet<String>) {
    let edges = desired.edges().keys().cloned().map(AttachmentId::Edge);
    let ids = desired.attachments().values().map(|record| record.id.clone()).chain(edges).collect();
    let networks = desired.services().values().map(|service| service.network.0.clone()).collect();
    (ids, networks)
}
