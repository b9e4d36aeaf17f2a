//! What an earlier run has left on the host, and no record speaks of: removed at start, by the mark of this instance.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    contract::{AttachmentId, NetworkName},
    desired::Desired,
    engine::{Error, context::Context},
    names::LinkName,
};

/// Removes attachments and networks that no record speaks of.
pub(super) async fn remove_objects(context: &Arc<Context>) -> Result<(), Error> {
    let observed = context.host.networks.observe().await?;
    // Backends list only what carries the mark of this instance, so that nothing of other programs can be met here.
    let known = KnownObjects::of(&context.ledger.desired());
    for attachment in observed.attachments.iter().filter(|found| !known.attachments.contains(&found.id)) {
        tracing::info!(id = %attachment.id, "an attachment without a record is removed");
        context.host.networks.detach(&attachment.id).await?;
    }
    for network in observed.networks.iter().filter(|found| !known.networks.contains(&found.name)) {
        tracing::info!(network = %network.name, "a network without a record is removed");
        context.host.networks.remove(&network.name).await?;
    }
    Ok(())
}

/// Removes devices that no record speaks of.
pub(super) async fn remove_devices(context: &Arc<Context>) -> Result<(), Error> {
    let observed = context.host.devices.observe().await?;
    let known = KnownObjects::of(&context.ledger.desired());
    for device in observed.iter().filter(|found| !known.devices.contains(&found.name)) {
        tracing::info!(device = %device.name, "a device without a record is removed");
        context.host.devices.remove(&device.name).await?;
    }
    Ok(())
}

/// Forgets the keys of guests that no record speaks of: a daemon may end between the record and the key.
pub(super) fn forget_keys(context: &Arc<Context>) -> Result<(), Error> {
    let guests: Vec<String> = {
        let desired = context.ledger.desired();
        let guests = desired.attachments().keys().filter_map(|handle| match handle {
            AttachmentId::Guest(id) => Some(id.clone()),
            _ => None,
        });
        guests.collect()
    };
    context.identity.keep_guest_keys(guests.iter().map(String::as_str))
}

/// What the records speak of.
struct KnownObjects {
    attachments: BTreeSet<AttachmentId>,
    networks: BTreeSet<NetworkName>,
    devices: BTreeSet<LinkName>,
}

impl KnownObjects {
    fn of(desired: &Desired) -> Self {
        let edges = desired.edges().keys().cloned().map(AttachmentId::Edge);
        let dedicated = desired.services().values().filter_map(|service| service.dedicated.as_ref());
        let global = desired.overlay().map(|overlay| &overlay.device);
        Self {
            attachments: desired.attachments().values().map(|record| record.id.clone()).chain(edges).collect(),
            networks: desired.services().values().map(|service| service.network.clone()).collect(),
            devices: dedicated.map(|dedicated| &dedicated.device).chain(global).cloned().collect(),
        }
    }
}
