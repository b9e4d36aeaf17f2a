//! The global overlay: one device per node.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use ipnet::IpNet;

use super::{Engine, Error, Stopping, locks::Key, parse, record::Undo};
use crate::{
    contract::AttachmentId,
    desired::{Change, Desired, OverlayRecord},
    names::interface_name,
    plan,
    protocol::{Response, SetupGlobalOverlay},
};

impl Engine {
    pub(super) async fn set_local_node_id(&self, node_id: u64) -> Result<Response, Error> {
        self.record(|desired| {
            let mut node = desired.node().clone();
            node.node_id = Some(node_id);
            Ok(changed(desired, node))
        })
        .await?;
        Ok(Response::Ok)
    }

    pub(super) async fn set_local_wg_pubkey(&self, pubkey: String) -> Result<Response, Error> {
        parse::name("pubkey", &pubkey)?;
        self.record(|desired| {
            let mut node = desired.node().clone();
            node.announced_pubkey = Some(pubkey);
            Ok(changed(desired, node))
        })
        .await?;
        Ok(Response::Ok)
    }

    pub(super) async fn setup_global_overlay(&self, request: SetupGlobalOverlay) -> Result<Response, Error> {
        let _world = self.world.read().await;
        let _overlay = self.locks.exclusive(Key::Overlay).await;
        let _coming_up = ComingUp::begin(&self.coming_up);
        let (undo, overlay) = self
            .decide(|desired| {
                let overlay = asked(desired, request)?;
                let changes = match desired.overlay() {
                    Some(known) if *known == overlay => vec![],
                    Some(known) => {
                        check_change(known, &overlay).map(|()| vec![Change::Overlay(Some(overlay.clone()))])?
                    }
                    None => {
                        check_services(desired, &overlay)?;
                        vec![Change::Overlay(Some(overlay.clone()))]
                    }
                };
                Ok((changes, overlay))
            })
            .await?;
        if let Err(error) = self.bring_up(&overlay).await {
            self.withdraw_overlay(undo, &overlay).await?;
            return Err(error);
        }
        // Whoever hears that the device is up finds it in the status.
        self.observe().await;
        tracing::info!(device = %overlay.device, cluster = %overlay.cluster, "the global overlay is up");
        Ok(Response::BridgeName { name: overlay.device.to_string() })
    }

    pub(super) async fn teardown_global_overlay(&self) -> Result<Response, Error> {
        let _world = self.world.write().await;
        self.remove_everything().await?;
        tracing::info!("the global overlay and everything on it is removed");
        Ok(Response::Ok)
    }

    pub(super) async fn shutdown(&self) -> Result<Response, Error> {
        let _world = self.world.write().await;
        self.remove_everything().await?;
        tracing::info!("everything is removed; the daemon ends");
        self.stopping.send_replace(Stopping::Asked);
        Ok(Response::Ok)
    }

    /// Makes the device and all that depends on it be as recorded.
    pub(super) async fn bring_up(&self, overlay: &OverlayRecord) -> Result<(), Error> {
        let plan = plan::global_device(&self.desired(), overlay, self.node_key.clone());
        let info = self.host.ensure_device(&plan).await?;
        self.mtu.store(info.mtu, Ordering::Relaxed);
        self.send_all_peers(None).await?;
        self.ensure_all_networks().await?;
        self.serve_names().await;
        Ok(())
    }

    async fn withdraw_overlay(&self, undo: Undo, failed: &OverlayRecord) -> Result<(), Error> {
        self.withdraw(undo).await?;
        let kept = self.desired().overlay().cloned();
        match kept {
            Some(kept) => self.bring_up(&kept).await,
            None => {
                self.sent.forget_all();
                self.host.remove_device(&failed.device).await
            }
        }
    }

    /// Removes every object of ours from the host, then every record but the node's identity and its names.
    async fn remove_everything(&self) -> Result<(), Error> {
        let (attachments, services, devices) = {
            let desired = self.desired();
            let attached = desired.attachments().values().map(|record| record.id.clone());
            let edges = desired.edges().keys().cloned().map(AttachmentId::Edge);
            let dedicated = desired.services().values().filter_map(|record| record.dedicated.as_ref());
            let devices = dedicated.map(|dedicated| &dedicated.device);
            (
                attached.chain(edges).collect::<Vec<_>>(),
                desired.services().values().map(|record| record.network.clone()).collect::<BTreeSet<_>>(),
                devices.chain(desired.overlay().map(|overlay| &overlay.device)).cloned().collect::<Vec<_>>(),
            )
        };
        self.silence_names().await?;
        for id in &attachments {
            self.host.detach(id).await?;
        }
        for network in &services {
            self.host.remove_network(network).await?;
        }
        for device in &devices {
            self.host.remove_device(device).await?;
        }
        self.sent.forget_all();
        self.observe().await;
        self.record(|desired| Ok(forget_all(desired))).await
    }
}

/// Counts a set-up for as long as it lives.
struct ComingUp<'a>(&'a AtomicUsize);

impl<'a> ComingUp<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for ComingUp<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn changed(desired: &Desired, node: crate::desired::NodeRecord) -> Vec<Change> {
    if *desired.node() == node { vec![] } else { vec![Change::Node(Some(node))] }
}

fn asked(desired: &Desired, request: SetupGlobalOverlay) -> Result<OverlayRecord, Error> {
    parse::name("deployment", &request.deployment)?;
    parse::name("instance_id", &request.instance_id)?;
    if request.wg_port == 0 {
        return Err(Error::invalid("wg_port", "port 0 is none that other nodes could send to"));
    }
    let cluster = parse::overlay_range("cluster CIDR", &request.cluster_cidr)?;
    let slice = request.slice_cidr.as_deref().map(|slice| parse::range("slice CIDR", slice)).transpose()?;
    check_slice(cluster, slice.unwrap_or(cluster))?;
    let device = interface_name(&[&request.deployment, &request.instance_id], "g")?;
    let known = desired.overlay().filter(|known| known.device == device);
    Ok(OverlayRecord {
        deployment: request.deployment,
        instance_id: request.instance_id,
        cluster,
        slice: slice.or_else(|| known.and_then(|known| known.slice)),
        port: request.wg_port,
        nat: request.nat.or_else(|| known.and_then(|known| known.nat.clone())),
        device,
    })
}

fn check_slice(cluster: IpNet, slice: IpNet) -> Result<(), Error> {
    if !cluster.contains(&slice.network()) || slice.prefix_len() < cluster.prefix_len() {
        return Err(Error::invalid(
            "slice CIDR",
            format_args!("{slice} does not lie inside the cluster range {cluster}"),
        ));
    }
    let room = slice.max_prefix_len() - slice.prefix_len();
    if room < 2 {
        let member = if slice == cluster { "cluster CIDR" } else { "slice CIDR" };
        return Err(Error::invalid(member, format_args!("{slice} has no room for this node and its containers")));
    }
    Ok(())
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

fn forget_all(desired: &Desired) -> Vec<Change> {
    let attachments = desired.attachments().keys().map(|handle| Change::Attachment(handle.clone(), None));
    let allocations = desired.allocations().keys().map(|ip| Change::Allocation(*ip, None));
    let rests = desired.rests().keys().map(|ip| Change::Rest(*ip, None));
    let peers = desired.peers().keys().map(|id| Change::Peer(id.clone(), None));
    let services = desired.services().keys().map(|name| Change::Service(name.clone(), None));
    let edges = desired.edges().keys().map(|name| Change::Edge(name.clone(), None));
    let leases = attachments.chain(edges).chain(allocations).chain(rests);
    leases.chain(peers).chain(services).chain([Change::Overlay(None)]).collect()
}
