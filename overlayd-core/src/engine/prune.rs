//! Removing bridges that the orchestrator does not know of any more.

use std::collections::BTreeSet;

use super::{Engine, Error, locks::Key};
use crate::{contract::NetworkName, desired::SHARED_SERVICE, protocol::Response};

impl Engine {
    /// Removes networks with our mark that are not named as live and have no members. A service that goes takes its
    /// device along.
    pub(super) async fn prune_orphan_bridges(&self, live: Vec<String>) -> Result<Response, Error> {
        let _world = self.world.read().await;
        let live: BTreeSet<String> = live.into_iter().collect();
        let observed = self.host.observe_networks().await?;
        let idle =
            observed.networks.into_iter().filter(|network| network.members == 0 && !live.contains(&network.name.0));
        let mut reclaimed = Vec::new();
        for network in idle {
            if self.prune(&network.name, &live).await? {
                reclaimed.push(network.name.0);
            }
        }
        Ok(Response::PrunedBridges { reclaimed })
    }

    async fn prune(&self, network: &NetworkName, live: &BTreeSet<String>) -> Result<bool, Error> {
        let owner = {
            let desired = self.desired();
            let mut services = desired.services().iter();
            services
                .find(|(_, service)| service.network == *network)
                .map(|(name, service)| (name.clone(), service.clone()))
        };
        let Some((name, service)) = owner else {
            return self.host.remove_network(network).await.map(|()| true);
        };
        let device_is_live = service.dedicated.is_some_and(|dedicated| live.contains(dedicated.device.as_str()));
        let shared = service.network == self.shared_network();
        let _service = self.locks.exclusive(Key::Service(name.clone())).await;
        if device_is_live || shared || self.desired().members(&name).next().is_some() {
            return Ok(false);
        }
        self.remove_service(&name).await.map(|()| true)
    }

    /// The bridge of the shared services, which is never idle while the node lives.
    fn shared_network(&self) -> NetworkName {
        let desired = self.desired();
        desired.service(SHARED_SERVICE).map_or_else(|| NetworkName(String::new()), |service| service.network.clone())
    }
}
