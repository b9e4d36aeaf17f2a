//! Opens what a start finds in the data directory: keys, records, and the file of the earlier product.

use tokio::sync::watch;

use super::{
    Backends, EngineConfig,
    context::Context,
    error::StartError,
    host::Host,
    identity::NodeIdentity,
    import_legacy,
    ledger::Ledger,
    locks::{ObjectLocks, TeardownGate},
};
use crate::{keyring::Keyring, private_file, store::Store};

/// The context of an engine, with the records of earlier runs.
pub(super) async fn load(config: EngineConfig, backends: Backends) -> Result<Context, StartError> {
    private_file::create_dir(&config.state_dir)
        .map_err(|source| StartError::Directory { path: config.state_dir.clone(), source })?;
    // Keys are apart from the records, so that a backup of the one need not hold the other.
    let keyring = Keyring::open(config.state_dir.join("keys"))?;
    // The store is locked by its daemon: a second one on the same directory ends here, before it has touched the
    // host.
    let (store, mut records) = Store::open(&config.state_dir.join("state.redb"))?;
    // Only at the very first start: later, the records of this daemon are the truth.
    if let Some(path) = config.legacy_marker.as_ref().filter(|_| records.is_empty()) {
        records = import_legacy::import(path, &keyring, &store).await?;
    }
    Ok(Context {
        host: Host::new(backends, config.times.backend_deadline),
        ledger: Ledger::new(store, records),
        // After the import, which may bring keys for services but never one for the node.
        identity: NodeIdentity::load(keyring)?,
        locks: ObjectLocks::default(),
        gate: TeardownGate::default(),
        life: watch::Sender::new(()),
        config,
    })
}
