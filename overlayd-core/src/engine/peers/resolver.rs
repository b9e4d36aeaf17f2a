//! Host names of peers: resolved when the peer is added, and again now and then, because addresses behind names move.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use crate::{
    desired::{EndpointSpec, PeerId},
    engine::{Engine, context::Context, peer_sync::PeerSync},
};

/// How long `add_peer` waits for a name before it answers all the same; the name is tried again in the background.
const PATIENCE: Duration = Duration::from_secs(1);

/// The addresses behind host names of peers.
#[derive(Debug)]
pub(in crate::engine) struct PeerResolver {
    context: Arc<Context>,
    sync: Arc<PeerSync>,
}

impl PeerResolver {
    pub(super) fn new(context: &Arc<Context>, sync: &Arc<PeerSync>) -> Self {
        Self { context: Arc::clone(context), sync: Arc::clone(sync) }
    }

    /// Resolves the name of a peer that is being added, within [`PATIENCE`].
    pub(super) async fn resolve_at_once(&self, id: &PeerId, host: &str, port: u16) {
        match tokio::time::timeout(PATIENCE, lookup(host, port)).await {
            // Whether the address is news does not matter here: the peer is sent to its device in any case.
            Ok(Some(address)) => {
                self.sync.addresses.note(id, address);
            }
            Ok(None) | Err(_) => {
                tracing::warn!(peer = %id.public_key, host, "the peer's name does not resolve; it is tried again later");
            }
        }
    }

    async fn resolve_all(&self) {
        let named: Vec<(PeerId, String, u16)> = {
            let desired = self.context.ledger.desired();
            let names = desired.peers().iter().filter_map(|(id, record)| match &record.endpoint {
                EndpointSpec::Name { host, port } => Some((id.clone(), host.clone(), *port)),
                EndpointSpec::Roaming | EndpointSpec::Address(_) => None,
            });
            names.collect()
        };
        let mut moved = Vec::new();
        for (id, host, port) in &named {
            // A name that does not resolve now keeps the address it had: an outage of DNS is no reason to cut a peer
            // off.
            let Some(address) = lookup(host, *port).await else { continue };
            if self.sync.addresses.note(id, address) {
                tracing::info!(peer = %id.public_key, host, %address, "the peer's name stands for another address now");
                moved.push(id.clone());
            }
        }
        self.sync.addresses.keep(|id| named.iter().any(|(named, ..)| named == id));
        // One by one: a peer that the device refuses must not keep the others from their new address.
        for id in &moved {
            if let Err(error) = self.sync.send(std::slice::from_ref(id)).await {
                tracing::warn!(%error, peer = %id.public_key, "the device was not told a peer's new address");
            }
        }
    }
}

async fn lookup(host: &str, port: u16) -> Option<SocketAddr> {
    match tokio::net::lookup_host((host, port)).await {
        Ok(mut addresses) => addresses.next(),
        Err(error) => {
            tracing::debug!(host, %error, "a name does not resolve");
            None
        }
    }
}

/// Resolves names of peers again and again, until the engine is dropped.
pub(in crate::engine) fn spawn(engine: &Arc<Engine>) {
    let interval = engine.context.config.times.resolve_interval;
    tokio::spawn(run(Arc::downgrade(engine), interval));
}

async fn run(engine: Weak<Engine>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(engine) = engine.upgrade() else { return };
        engine.areas.peers.resolver.resolve_all().await;
    }
}
