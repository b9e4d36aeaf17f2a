//! Removing the overlay and everything on it.

use std::collections::BTreeSet;

use tokio::sync::RwLockWriteGuard;

use super::Overlay;
use crate::{
    contract::{AttachmentId, NetworkName},
    desired::{Change, Desired},
    engine::Error,
    names::LinkName,
};

/// What a node has on its host.
struct HostObjects {
    attachments: Vec<AttachmentId>,
    networks: BTreeSet<NetworkName>,
    devices: Vec<LinkName>,
}

impl Overlay {
    /// Removes everything that this daemon has made from the host, then every record but the node's identity and its
    /// names. No request is inside of the gate at that time.
    pub(in crate::engine) async fn tear_down(&self, _exclusive: &RwLockWriteGuard<'_, ()>) -> Result<(), Error> {
        let objects = host_objects(&self.context.ledger.desired());
        // First, because clients that still ask would be given addresses that are gone.
        self.names.silence().await?;
        // From the top of each other to the ground: containers, their networks, the devices behind those.
        for id in &objects.attachments {
            self.context.host.networks.detach(id).await?;
        }
        for network in &objects.networks {
            self.context.host.networks.remove(network).await?;
        }
        for device in &objects.devices {
            self.context.host.devices.remove(device).await?;
        }
        self.peers.forget_all();
        self.observer.observe().await;
        // Last: a daemon that ends before this has the records to start the teardown again from.
        self.context.ledger.record(|desired| Ok(forget_all(desired))).await?;
        self.device.is_removed();
        Ok(())
    }
}

fn host_objects(desired: &Desired) -> HostObjects {
    let attached = desired.attachments().values().map(|record| record.id.clone());
    let edges = desired.edges().keys().cloned().map(AttachmentId::Edge);
    let dedicated = desired.services().values().filter_map(|record| record.dedicated.as_ref());
    let global = desired.overlay().map(|overlay| &overlay.device);
    HostObjects {
        attachments: attached.chain(edges).collect(),
        networks: desired.services().values().map(|record| record.network.clone()).collect(),
        devices: dedicated.map(|dedicated| &dedicated.device).chain(global).cloned().collect(),
    }
}

fn forget_all(desired: &Desired) -> Vec<Change> {
    let attachments = desired.attachments().keys().map(|handle| Change::Attachment(handle.clone(), None));
    let allocations = desired.allocations().keys().map(|ip| Change::Allocation(*ip, None));
    let rests = desired.rests().keys().map(|ip| Change::Rest(*ip, None));
    let peers = desired.peers().keys().map(|id| Change::Peer(id.clone(), None));
    let services = desired.services().keys().map(|name| Change::Service(name.clone(), None));
    let edges = desired.edges().keys().map(|name| Change::Edge(name.clone(), None));
    // Registered names and the node id stay: they are not part of the overlay, and are served again by the next one.
    let leases = attachments.chain(edges).chain(allocations).chain(rests);
    leases.chain(peers).chain(services).chain([Change::Overlay(None)]).collect()
}
