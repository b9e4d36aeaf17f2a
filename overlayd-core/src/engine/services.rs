//! Services and the local networks their containers plug into.

mod dedicated;
mod lifetime;
mod new;

use std::sync::atomic::Ordering;

pub(super) use self::lifetime::{Use, left, used};
use super::{Engine, Error, locks::Key, parse};
use crate::{
    desired::{Change, Desired, Handle, SHARED_SERVICE, ServiceRecord},
    ipam::first_host,
    plan,
    protocol::{OverlayMode, Response, ServiceOverlayInfo},
};

impl Engine {
    pub(super) async fn setup_service(&self, name: String, mode: OverlayMode) -> Result<Response, Error> {
        if name == SHARED_SERVICE {
            return Err(Error::invalid("service", format_args!("`{name}` is a reserved name")));
        }
        parse::name("service", &name)?;
        let _world = self.world.read().await;
        let _shared = self.lock_shared_bridge(mode).await;
        let _service = self.locks.exclusive(Key::Service(name.clone())).await;
        self.leave_mode(&name, mode).await?;
        let record = match mode {
            OverlayMode::Auto | OverlayMode::Isolated => self.setup_bridge(&name, mode).await?,
            OverlayMode::Shared => self.setup_shared(&name).await?,
            OverlayMode::Dedicated => self.setup_dedicated(&name).await?,
        };
        tracing::info!(service = name, ?mode, network = %record.network, "a service is set up");
        Ok(Response::ServiceOverlay(info(&record)))
    }

    pub(super) async fn teardown_service(&self, name: String) -> Result<Response, Error> {
        let _world = self.world.read().await;
        let _service = self.locks.exclusive(Key::Service(name.clone())).await;
        self.remove_service(&name).await?;
        Ok(Response::Ok)
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

    /// Makes the devices of dedicated services and then all networks be as recorded.
    pub(super) async fn ensure_all_networks(&self) -> Result<(), Error> {
        let services: Vec<(String, OverlayMode)> = {
            let desired = self.desired();
            desired.services().iter().map(|(name, service)| (name.clone(), service.mode)).collect()
        };
        for (name, mode) in services {
            let _service = self.locks.shared(Key::Service(name.clone())).await;
            if mode == OverlayMode::Dedicated {
                self.ensure_dedicated_device(&name).await?;
                self.send_all_peers(Some(&name)).await?;
            }
            if mode != OverlayMode::Shared || name == SHARED_SERVICE {
                self.ensure_network(&name).await?;
            }
        }
        Ok(())
    }

    /// Detaches what is attached, then removes what the host has of it, then forgets. The caller holds the service's
    /// lock.
    pub(super) async fn remove_service(&self, name: &str) -> Result<(), Error> {
        let (members, service) = {
            let desired = self.desired();
            let Some(service) = desired.service(name) else { return Ok(()) };
            (desired.members(name).cloned().collect::<Vec<Handle>>(), service.clone())
        };
        for handle in members {
            // Somebody may be about to plug it in again, if only to find that it is asked for in another service.
            let _handle = self.locks.exclusive(Key::Handle(handle.clone())).await;
            self.unplug(&handle).await?;
        }
        if service.mode != OverlayMode::Shared || name == SHARED_SERVICE {
            self.host.remove_network(&service.network).await?;
        }
        if let Some(dedicated) = &service.dedicated {
            self.remove_dedicated_device(name, &dedicated.device).await?;
        }
        self.record(|desired| {
            let peers = desired.peers_of(Some(name)).map(|(id, _)| Change::Peer(id.clone(), None));
            Ok(peers.chain([Change::Service(name.to_owned(), None)]).collect())
        })
        .await?;
        tracing::info!(service = name, network = %service.network, "a service is removed");
        Ok(())
    }

    /// A service without members changes its mode by being set up anew; one with members does not.
    async fn leave_mode(&self, name: &str, mode: OverlayMode) -> Result<(), Error> {
        let (known, members) = {
            let desired = self.desired();
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
        self.remove_service(name).await
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
