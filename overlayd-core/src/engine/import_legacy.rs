//! Imports what the earlier product has left in the data directory, once.

use std::path::Path;

use super::error::StartError;
use crate::{
    desired::Change,
    keyring::{Keyring, key_name},
    legacy::{self, Identity},
    store::Store,
};

/// Gives the dedicated services in the file their keys and ports, and returns what was recorded. A crash on the way is
/// made up for by the next start: as long as nothing is recorded, the file counts.
pub(super) async fn import(path: &Path, keyring: &Keyring, store: &Store) -> Result<Vec<Change>, StartError> {
    let mut changes = Vec::new();
    for Identity { service, key, port } in legacy::read(path)? {
        // A key that this daemon has used already wins: its peers know it by now.
        let known = keyring.load_or_store(&key_name("service", &service), || key.clone())?;
        if known == key {
            tracing::info!(service, port, public_key = %key.public_key(), "took over the identity of a service");
            changes.push(Change::DedicatedPort(service, Some(port.get())));
        } else {
            tracing::warn!(service, path = %path.display(), "a service keeps its own key, not the one in the file");
        }
    }
    if !changes.is_empty() {
        store.commit(&changes).durable().await?;
    }
    Ok(changes)
}
