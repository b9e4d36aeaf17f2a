//! Setting up the bridge of a service, its own or the one that all shared services have in common.

use super::Services;
use crate::{
    contract::NetworkName,
    desired::{Change, Desired, Lifetime, SHARED_SERVICE, ServiceRecord},
    engine::{
        Error,
        lifetime::{ServiceUse, used},
    },
    ipam::{choose_block, node_key},
    names::interface_name,
    protocol::OverlayMode,
};

impl Services {
    /// A service with a bridge of its own.
    pub(super) async fn set_up_bridge(&self, name: &str, mode: OverlayMode) -> Result<ServiceRecord, Error> {
        let (undo, record) = self
            .context
            .ledger
            .decide(|desired| {
                if let Some(known) = desired.service(name) {
                    return Ok((used(desired, name, ServiceUse::Passing).into_iter().collect(), known.clone()));
                }
                let record = with_block(desired, name, mode, &[name], "b")?;
                Ok((vec![Change::Service(name.to_owned(), Some(record.clone()))], record))
            })
            .await?;
        if let Err(error) = self.networks.ensure_network(name).await {
            self.context.ledger.withdraw(undo).await?;
            return Err(error);
        }
        Ok(record)
    }

    /// A service on the shared bridge, which the first of them brings up.
    pub(super) async fn set_up_shared(&self, name: &str) -> Result<ServiceRecord, Error> {
        let (undo, record) = self
            .context
            .ledger
            .decide(|desired| {
                let mut changes = vec![];
                let bridge = match desired.service(SHARED_SERVICE) {
                    Some(bridge) => bridge.clone(),
                    None => {
                        let bridge = with_block(desired, SHARED_SERVICE, OverlayMode::Shared, &["shared"], "sh")?;
                        changes.push(Change::Service(SHARED_SERVICE.into(), Some(bridge.clone())));
                        bridge
                    }
                };
                if let Some(known) = desired.service(name) {
                    changes.extend(used(desired, name, ServiceUse::Passing));
                    return Ok((changes, known.clone()));
                }
                // Each shared service has a record of its own with the block of the bridge, so that its members are
                // counted apart.
                let record = ServiceRecord { lifetime: Lifetime::UntilEmpty, ..bridge };
                changes.push(Change::Service(name.to_owned(), Some(record.clone())));
                Ok((changes, record))
            })
            .await?;
        if let Err(error) = self.networks.ensure_network(SHARED_SERVICE).await {
            self.context.ledger.withdraw(undo).await?;
            return Err(error);
        }
        Ok(record)
    }
}

/// A new record with the block that the service's name derives, and the interface name that `parts` do.
pub(super) fn with_block(
    desired: &Desired,
    name: &str,
    mode: OverlayMode,
    parts: &[&str],
    suffix: &str,
) -> Result<ServiceRecord, Error> {
    let key = node_key(desired.node().node_id);
    // The block follows from the name and the node, so that a service that comes back has the addresses it had, and
    // the same service on two nodes has different ones.
    let block = choose_block(desired.cluster().trunc(), name, &key, |block| desired.block_is_free(block))?;
    let network = interface_name(&[&names(desired), parts].concat(), suffix)?;
    Ok(ServiceRecord {
        mode,
        block,
        network: NetworkName(network.to_string()),
        guid: None,
        dedicated: None,
        lifetime: Lifetime::UntilEmpty,
    })
}

/// What all names start with: deployment and instance, empty until there is an overlay.
pub(super) fn names(desired: &Desired) -> [&str; 2] {
    desired.overlay().map_or(["", ""], |overlay| [overlay.deployment.as_str(), overlay.instance_id.as_str()])
}
