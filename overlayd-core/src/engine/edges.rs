//! Edge peers: identities for machines outside of the cluster, for a while, with what they may reach.

mod expiry;
mod mint;

use std::{
    sync::{Arc, Weak},
    time::{Duration, UNIX_EPOCH},
};

use tokio::sync::Notify;

use self::expiry::Expired;
pub(super) use self::mint::Asked;
use super::{Engine, Error, locks::Key};
use crate::{
    contract::AttachmentId,
    desired::{Change, EdgeRecord, PeerId},
    keys::PublicKey,
    protocol::{EdgePeerStatus, Response},
};

/// How often edges are looked for that never came or went silent, or could not be removed before.
const SWEEP: Duration = Duration::from_secs(15);

/// Starts sweeping until the engine is dropped.
pub(super) fn spawn(engine: &Arc<Engine>) {
    tokio::spawn(run(Arc::downgrade(engine), Arc::clone(&engine.edge_minted)));
}

/// Sweeps now and then, and besides at the moment in which the time of an edge is over.
async fn run(engine: Weak<Engine>, minted: Arc<Notify>) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut ends = SWEEP;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = tokio::time::sleep(ends) => {}
            () = minted.notified() => {}
        }
        let Some(engine) = engine.upgrade() else { return };
        engine.sweep_edges(engine.now()).await;
        ends = engine.next_edge_ends_in().min(SWEEP);
    }
}

impl Engine {
    pub(super) async fn revoke_edge_peer(&self, name: &str) -> Result<Response, Error> {
        let _world = self.world.read().await;
        self.remove_edge(name).await?;
        Ok(Response::Ok)
    }

    pub(super) fn list_edge_peers(&self) -> Response {
        let desired = self.desired();
        let peers = desired.edges().iter().map(|(name, edge)| EdgePeerStatus {
            name: name.clone(),
            overlay_ip: edge.ip,
            public_key: edge.public_key.to_base64(),
            minted_at_unix: edge.minted_at,
            expires_at_unix: edge.expires_at,
            last_handshake_unix_secs: self.edge_seen_at(&edge.public_key).and_then(|at| i64::try_from(at).ok()),
            allowed: edge.allowed.iter().map(ToString::to_string).collect(),
        });
        Response::EdgePeers { peers: peers.collect() }
    }

    /// How long until the next edge's time is over. One whose time is over already could not be removed, and waits for the
    /// next tick.
    fn next_edge_ends_in(&self) -> Duration {
        let now = self.config.clock.system_time();
        let desired = self.desired();
        let ends =
            desired.edges().values().filter_map(|edge| UNIX_EPOCH.checked_add(Duration::from_secs(edge.expires_at)));
        ends.filter_map(|end| end.duration_since(now).ok()).min().unwrap_or(Duration::MAX)
    }

    /// Removes the edges that are due at `now` (Unix seconds).
    async fn sweep_edges(&self, now: u64) {
        let due: Vec<(String, Expired)> = {
            let desired = self.desired();
            let edges = desired.edges().iter();
            let due = edges.filter_map(|(name, edge)| {
                let seen_at = self.edge_seen_at(&edge.public_key);
                expiry::due(edge, seen_at, self.started_at, now).map(|why| (name.clone(), why))
            });
            due.collect()
        };
        for (name, why) in due {
            let _world = self.world.read().await;
            match self.remove_edge(&name).await {
                Ok(()) => tracing::info!(edge = name, reason = why.name(), "an edge peer is no longer let in"),
                Err(error) => tracing::error!(edge = name, %error, "an expired edge peer could not be removed"),
            }
        }
    }

    /// The key goes first: without it there is nothing left to fence.
    async fn remove_edge(&self, name: &str) -> Result<(), Error> {
        let _edge = self.locks.exclusive(Key::Edge(name.to_owned())).await;
        let Some(EdgeRecord { ip, public_key, .. }) = self.desired().edges().get(name).cloned() else { return Ok(()) };
        let issued = PeerId { service: None, public_key };
        let dropped = self.drop_issued(&issued).await?;
        self.host.detach(&AttachmentId::Edge(name.to_owned())).await?;
        self.record(|desired| {
            let mut changes = vec![Change::Edge(name.to_owned(), None), Change::Peer(issued.clone(), None)];
            changes.extend(self.rest(desired, ip));
            Ok(changes)
        })
        .await?;
        self.issued_is_gone(&issued, dropped).await
    }

    /// Unix second of the last handshake with this edge.
    fn edge_seen_at(&self, public_key: &PublicKey) -> Option<u64> {
        let observed = self.observed.borrow();
        let at = observed.peer(public_key)?.last_handshake?;
        at.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
    }
}
