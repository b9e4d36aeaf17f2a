//! Removing bridges that the orchestrator no longer knows.

use std::collections::BTreeSet;

use super::Services;
use crate::{
    contract::NetworkName,
    desired::{SHARED_SERVICE, ServiceRecord},
    engine::{Error, locks::Entered},
    protocol::Response,
};

impl Services {
    /// Removes networks of this instance that are not named as live and have no members. A service that goes takes its
    /// device along.
    pub(in crate::engine) async fn prune(
        &self,
        entered: &mut Entered<'_>,
        live: Vec<String>,
    ) -> Result<Response, Error> {
        let live: BTreeSet<String> = live.into_iter().collect();
        let observed = self.context.host.networks.observe().await?;
        let mut reclaimed = Vec::new();
        for network in observed.networks {
            let is_idle = network.members == 0 && !live.contains(&network.name.0);
            if is_idle && self.prune_network(entered, &network.name, &live).await? {
                reclaimed.push(network.name.0);
            }
        }
        Ok(Response::PrunedBridges { reclaimed })
    }

    async fn prune_network(
        &self,
        entered: &mut Entered<'_>,
        network: &NetworkName,
        live: &BTreeSet<String>,
    ) -> Result<bool, Error> {
        let Some((name, service)) = self.owner_of(network) else {
            // A network without an owner carries the mark of this instance, or the backend would not have listed it.
            return self.context.host.networks.remove(network).await.map(|()| true);
        };
        let device_is_live = service.dedicated.is_some_and(|dedicated| live.contains(dedicated.device.as_str()));
        // The bridge of the shared services is never idle while the node lives.
        let is_shared =
            self.context.ledger.desired().service(SHARED_SERVICE).is_some_and(|shared| shared.network == *network);
        let mut held = self.context.locks.service(entered, &name).await;
        // Asked under the lock: the service may have got its first member since the host was observed.
        if device_is_live || is_shared || self.context.ledger.desired().members(&name).next().is_some() {
            return Ok(false);
        }
        self.remove(&mut held, &name).await.map(|()| true)
    }

    fn owner_of(&self, network: &NetworkName) -> Option<(String, ServiceRecord)> {
        let desired = self.context.ledger.desired();
        let mut services = desired.services().iter();
        let (name, service) = services.find(|(_, service)| service.network == *network)?;
        Some((name.clone(), service.clone()))
    }
}
