//! The global overlay: one WireGuard device per node, and all that depends on it.

mod teardown;

use std::sync::Arc;

use super::{
    Error,
    context::Context,
    global_device::GlobalDevice,
    ledger::Undo,
    locks::{Entered, Held, OverlayHeld},
    names::NameAnswers,
    networks::ServiceNetworks,
    observer::DeviceObserver,
    peer_sync::PeerSync,
};
use crate::{
    command::OverlayCommand,
    desired::{Change, Desired, DeviceScope, NodeRecord, OverlayRecord},
    names::interface_name,
    protocol::Response,
};

/// Who this node is, and the overlay that it is part of.
#[derive(Debug)]
pub(super) struct Overlay {
    context: Arc<Context>,
    device: Arc<GlobalDevice>,
    observer: Arc<DeviceObserver>,
    peers: Arc<PeerSync>,
    networks: Arc<ServiceNetworks>,
    names: Arc<NameAnswers>,
}

impl Overlay {
    pub(super) fn new(
        context: &Arc<Context>,
        device: &Arc<GlobalDevice>,
        observer: &Arc<DeviceObserver>,
        peers: &Arc<PeerSync>,
        networks: &Arc<ServiceNetworks>,
        names: &Arc<NameAnswers>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            device: Arc::clone(device),
            observer: Arc::clone(observer),
            peers: Arc::clone(peers),
            networks: Arc::clone(networks),
            names: Arc::clone(names),
        }
    }

    /// The device that carries it.
    pub(super) fn device(&self) -> &GlobalDevice {
        &self.device
    }

    pub(super) async fn set_local_node_id(&self, node_id: u64) -> Result<Response, Error> {
        self.change_node(|node| node.node_id = Some(node_id)).await
    }

    pub(super) async fn set_local_wg_pubkey(&self, pubkey: String) -> Result<Response, Error> {
        self.change_node(|node| node.announced_pubkey = Some(pubkey)).await
    }

    /// Sets the overlay up, or changes the port and the NAT settings of one that is set up.
    pub(super) async fn set_up(&self, entered: &mut Entered<'_>, command: OverlayCommand) -> Result<Response, Error> {
        let mut held = self.context.locks.overlay(entered).await;
        let _coming_up = self.device.begin_set_up();
        let (undo, overlay) = self
            .context
            .ledger
            .decide(|desired| {
                let overlay = recorded(desired, command)?;
                let is_known = check_against(desired, &overlay)?;
                let changes = if is_known { vec![] } else { vec![Change::Overlay(Some(overlay.clone()))] };
                Ok((changes, overlay))
            })
            .await?;
        if let Err(error) = self.bring_up(&mut held).await {
            // A repeated set-up that fails goes back to what was there before, so that a wrong port does not cut off
            // a running overlay.
            self.withdraw(&mut held, undo, &overlay).await?;
            return Err(error);
        }
        // A caller that hears that the device is up finds it in the status.
        self.observer.observe().await;
        tracing::info!(device = %overlay.device, cluster = %overlay.cluster, "the global overlay is up");
        Ok(Response::BridgeName { name: overlay.device.to_string() })
    }

    /// Makes the overlay and all networks be as recorded. Without an overlay, services have networks all the same.
    pub(super) async fn reconcile<const BEFORE: u8>(&self, held: &mut Held<'_, BEFORE>) -> Result<(), Error> {
        let mut held = self.context.locks.overlay(held).await;
        let is_set_up = self.context.ledger.desired().overlay().is_some();
        if is_set_up { self.bring_up(&mut held).await } else { self.networks.reconcile(&mut held).await }
    }

    /// In the order in which each needs the one before: peers the device, networks its MTU, answers its address.
    async fn bring_up(&self, held: &mut OverlayHeld<'_>) -> Result<(), Error> {
        self.device.bring_up().await?;
        self.peers.reconcile(&DeviceScope::Global).await?;
        self.networks.reconcile(held).await?;
        self.names.reconcile().await;
        Ok(())
    }

    async fn withdraw(&self, held: &mut OverlayHeld<'_>, undo: Undo, failed: &OverlayRecord) -> Result<(), Error> {
        self.context.ledger.withdraw(undo).await?;
        let is_kept = self.context.ledger.desired().overlay().is_some();
        if is_kept {
            return self.bring_up(held).await;
        }
        // A device of this name that is made later has been told nothing.
        self.peers.forget_all();
        self.context.host.devices.remove(&failed.device).await
    }

    async fn change_node(&self, change: impl FnOnce(&mut NodeRecord)) -> Result<Response, Error> {
        self.context
            .ledger
            .record(|desired| {
                let mut node = desired.node().clone();
                change(&mut node);
                Ok(if *desired.node() == node { vec![] } else { vec![Change::Node(Some(node))] })
            })
            .await?;
        Ok(Response::Ok)
    }
}

/// The record of the overlay as it is asked for. What the command leaves out stays as it is on record.
fn recorded(desired: &Desired, command: OverlayCommand) -> Result<OverlayRecord, Error> {
    let device = interface_name(&[&command.deployment, &command.instance_id], "g")?;
    // An overlay of another name is another overlay: nothing of the known one is carried over.
    let known = desired.overlay().filter(|known| known.device == device);
    Ok(OverlayRecord {
        slice: command.slice.or_else(|| known.and_then(|known| known.slice)),
        nat: command.nat.or_else(|| known.and_then(|known| known.nat.clone())),
        deployment: command.deployment,
        instance_id: command.instance_id,
        cluster: command.cluster,
        port: command.port,
        device,
    })
}

/// Whether the overlay is set up exactly so already. One that would contradict what is set up is refused.
fn check_against(desired: &Desired, overlay: &OverlayRecord) -> Result<bool, Error> {
    let Some(known) = desired.overlay() else { return check_services(desired, overlay).map(|()| false) };
    // It is brought up all the same: the request may have been repeated because the host lost something.
    if known == overlay {
        return Ok(true);
    }
    check_change(known, overlay).map(|()| false)
}

/// Port and NAT settings may change under a running overlay; what addresses and names derive from may not.
fn check_change(known: &OverlayRecord, asked: &OverlayRecord) -> Result<(), Error> {
    let same = known.device == asked.device && known.cluster == asked.cluster && known.slice == asked.slice;
    if same {
        return Ok(());
    }
    let slice = |record: &OverlayRecord| record.slice.map_or_else(|| "none".into(), |slice| slice.to_string());
    Err(Error::Conflict(format!(
        "the overlay is already set up as {} ({}, slice {}); tear it down before setting it up as {} ({}, slice {})",
        known.device,
        known.cluster,
        slice(known),
        asked.device,
        asked.cluster,
        slice(asked),
    )))
}

/// Services may come before the overlay, in the default range; an overlay elsewhere cannot carry them.
fn check_services(desired: &Desired, overlay: &OverlayRecord) -> Result<(), Error> {
    match desired.services().iter().find(|(_, service)| !overlay.cluster.contains(&service.block)) {
        None => Ok(()),
        Some((name, service)) => Err(Error::Conflict(format!(
            "service {name} was set up with {}, outside of the cluster range {}; tear it down first",
            service.block, overlay.cluster,
        ))),
    }
}
