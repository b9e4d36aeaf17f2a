//! Services and the local networks their containers plug into.

use std::sync::atomic::Ordering;

use super::{Engine, Error, locks::Key};
use crate::{
    contract::NetworkName,
    desired::{Change, Desired, ServiceRecord},
    ipam::{choose_block, node_key},
    names::interface_name,
    plan,
    protocol::{OverlayMode, Response, ServiceOverlayInfo},
};

impl Engine {
    pub(super) async fn setup_service(&self, name: String, mode: OverlayMode) -> Result<Response, Error> {
        if mode != OverlayMode::Auto {
            return Err(Error::Unsupported(format!("mode {mode:?} is not supported yet; use auto").to_lowercase()));
        }
        let _world = self.world.read().await;
        let _service = self.locks.exclusive(Key::Service(name.clone())).await;
        let (undo, network) = self
            .decide(|desired| {
                if let Some(known) = desired.service(&name) {
                    return Ok((vec![], known.network.clone()));
                }
                let record = new_service(desired, &name, mode)?;
                let network = record.network.clone();
                Ok((vec![Change::Service(name.clone(), Some(record))], network))
            })
            .await?;
        if let Err(error) = self.ensure_network(&name).await {
            self.withdraw(undo).await?;
            return Err(error);
        }
        tracing::info!(service = name, %network, "a service is set up");
        let reported = if mode == OverlayMode::Isolated { OverlayMode::Auto } else { mode };
        Ok(Response::ServiceOverlay(ServiceOverlayInfo {
            name: network.0,
            mode: reported,
            wg_public_key: None,
            wg_port: None,
            overlay_ip: None,
            subnet: None,
        }))
    }

    pub(super) async fn teardown_service(&self, name: String) -> Result<Response, Error> {
        let _world = self.world.read().await;
        let _service = self.locks.exclusive(Key::Service(name.clone())).await;
        self.remove_service(&name).await?;
        Ok(Response::Ok)
    }

    /// Removes the service that its last, ephemeral container has left, unless somebody came back.
    pub(super) async fn remove_if_empty(&self, name: &str) -> Result<(), Error> {
        let _service = self.locks.exclusive(Key::Service(name.to_owned())).await;
        let empty = self.desired().members(name).next().is_none();
        if empty { self.remove_service(name).await } else { Ok(()) }
    }

    /// Makes the network of a service be as recorded. A service that is gone needs none.
    pub(super) async fn ensure_network(&self, name: &str) -> Result<(), Error> {
        let plan = {
            let desired = self.desired();
            let service = desired.service(name);
            service.map(|service| plan::network(&desired, service, self.mtu.load(Ordering::Relaxed)))
        };
        let Some(plan) = plan else { return Ok(()) };
        let info = self.host.ensure_network(&plan).await?;
        if info.guid == plan.guid {
            return Ok(());
        }
        let keep_guid = |desired: &mut Desired| {
            let known = desired.service(name).cloned();
            let known =
                known.map(|known| Change::Service(name.to_owned(), Some(ServiceRecord { guid: info.guid, ..known })));
            Ok(known.into_iter().collect())
        };
        self.record(keep_guid).await
    }

    pub(super) async fn ensure_all_networks(&self) -> Result<(), Error> {
        let names: Vec<String> = self.desired().services().keys().cloned().collect();
        for name in names {
            self.ensure_network(&name).await?;
        }
        Ok(())
    }

    /// Detaches what is attached, then removes the network, then forgets. The caller holds the service's lock.
    async fn remove_service(&self, name: &str) -> Result<(), Error> {
        let (members, network) = {
            let desired = self.desired();
            let Some(service) = desired.service(name) else { return Ok(()) };
            (desired.members(name).cloned().collect::<Vec<_>>(), service.network.clone())
        };
        for handle in members {
            self.unplug(&handle).await?;
        }
        self.host.remove_network(&network).await?;
        self.record(|_| Ok(vec![Change::Service(name.to_owned(), None)])).await?;
        tracing::info!(service = name, %network, "a service is removed");
        Ok(())
    }
}

fn new_service(desired: &Desired, name: &str, mode: OverlayMode) -> Result<ServiceRecord, Error> {
    let key = node_key(desired.node().node_id);
    let block = choose_block(desired.cluster().trunc(), name, &key, |block| desired.block_is_free(block))?;
    let (deployment, instance) =
        desired.overlay().map_or(("", ""), |overlay| (overlay.deployment.as_str(), overlay.instance_id.as_str()));
    let network = interface_name(&[deployment, instance, name], "b")?;
    Ok(ServiceRecord { mode, block, network: NetworkName(network.to_string()), guid: None })
}
