//! Edge peers: identities for machines outside of the cluster, for a while, with what they may reach.

mod expiry;
mod mint;

use std::{
    sync::{Arc, Weak},
    time::{Duration, UNIX_EPOCH},
};

use tokio::{sync::Notify, time::MissedTickBehavior};

use self::expiry::ExpiryReason;
use super::{
    Engine, Error,
    context::Context,
    locks::{EdgeHeld, Entered},
    observer::DeviceObserver,
    peer_sync::PeerSync,
};
use crate::{
    contract::AttachmentId,
    desired::{Change, DeviceScope, EdgeRecord, PeerId},
    plan,
    protocol::{EdgePeerStatus, Response},
};

/// How often edges are looked for that never came or went silent, or could not be removed before.
const SWEEP: Duration = Duration::from_secs(15);

/// The edge peers that this node has let in.
#[derive(Debug)]
pub(super) struct Edges {
    context: Arc<Context>,
    observer: Arc<DeviceObserver>,
    peers: Arc<PeerSync>,
    /// Wakes the sweep, so that it knows when the time of a new edge is over.
    minted: Arc<Notify>,
    /// Unix second of the daemon's start.
    started_at: u64,
}

impl Edges {
    pub(super) fn new(context: &Arc<Context>, observer: &Arc<DeviceObserver>, peers: &Arc<PeerSync>) -> Self {
        Self {
            started_at: context.now(),
            minted: Arc::default(),
            context: Arc::clone(context),
            observer: Arc::clone(observer),
            peers: Arc::clone(peers),
        }
    }

    pub(super) async fn revoke(&self, entered: &mut Entered<'_>, name: &str) -> Result<Response, Error> {
        self.remove(entered, name).await?;
        Ok(Response::Ok)
    }

    pub(super) fn list(&self) -> Response {
        let desired = self.context.ledger.desired();
        let peers = desired.edges().iter().map(|(name, edge)| EdgePeerStatus {
            name: name.clone(),
            overlay_ip: edge.ip,
            public_key: edge.public_key.to_base64(),
            minted_at_unix: edge.minted_at,
            expires_at_unix: edge.expires_at,
            last_handshake_unix_secs: self.observer.seen_at(&edge.public_key).and_then(|at| i64::try_from(at).ok()),
            allowed: edge.access.ranges().iter().map(ToString::to_string).collect(),
        });
        Response::EdgePeers { peers: peers.collect() }
    }

    /// Has the fences of those edges stand that `stands` says do not, and of those that are kept out.
    pub(super) async fn reconcile_fences(
        &self,
        entered: &mut Entered<'_>,
        stands: impl Fn(&AttachmentId) -> bool,
    ) -> Vec<(String, Error)> {
        let fallen: Vec<String> = {
            let desired = self.context.ledger.desired();
            // Locks of data are taken in this order everywhere: records, then withheld identities.
            let withheld = self.peers.withheld();
            let edges = desired.edges().iter().filter(|(name, edge)| {
                withheld.contains(&edge.public_key) || !stands(&AttachmentId::Edge((*name).clone()))
            });
            edges.map(|(name, _)| name.clone()).collect()
        };
        let mut failures = Vec::new();
        for name in fallen {
            let held = self.context.locks.edge(entered, &name).await;
            if let Err(error) = self.reconcile_fence(&held, &name).await {
                failures.push((name, error));
            }
        }
        failures
    }

    /// Has the fence of an edge stand, and lets the edge in or keeps it out accordingly.
    async fn reconcile_fence(&self, _held: &EdgeHeld<'_>, name: &str) -> Result<(), Error> {
        let edge = self.context.ledger.desired().edges().get(name).cloned();
        let Some(edge) = edge else { return Ok(()) };
        // The fence is made or kept before the device hears of the identity, never the other way round.
        let outcome = self.ensure_fence(name, &edge).await;
        let issued = PeerId { scope: DeviceScope::Global, public_key: edge.public_key };
        self.peers.admit(&format!("edge {name}"), &issued, outcome.as_ref().copied()).await;
        outcome
    }

    async fn ensure_fence(&self, name: &str, edge: &EdgeRecord) -> Result<(), Error> {
        let plan = plan::edge(&self.context.ledger.desired(), name, edge);
        // An edge that may reach the whole overlay has no fence.
        let Some(plan) = plan else { return Ok(()) };
        self.context.host.networks.attach(&plan).await.map(drop)
    }

    /// Removes the edges that are due at `now` (Unix seconds).
    async fn sweep(&self, now: u64) {
        let due: Vec<(String, ExpiryReason)> = {
            let desired = self.context.ledger.desired();
            let due = desired.edges().iter().filter_map(|(name, edge)| {
                let seen_at = self.observer.seen_at(&edge.public_key);
                expiry::due(edge, seen_at, self.started_at, now).map(|why| (name.clone(), why))
            });
            due.collect()
        };
        for (name, why) in due {
            // For each edge anew, so that a teardown does not wait for all of them.
            let mut entered = self.context.gate.enter().await;
            match self.remove(&mut entered, &name).await {
                Ok(()) => tracing::info!(edge = name, reason = why.text(), "an edge peer is no longer let in"),
                Err(error) => tracing::error!(edge = name, %error, "an expired edge peer could not be removed"),
            }
        }
    }

    /// How long until the time of the next edge is over. One whose time is over already could not be removed, and waits
    /// for the next tick.
    fn next_ends_in(&self) -> Duration {
        let now = self.context.config.clock.system_time();
        let desired = self.context.ledger.desired();
        let ends =
            // A lifetime is any number of seconds that a caller likes, also one beyond what the clock can say.
            desired.edges().values().filter_map(|edge| UNIX_EPOCH.checked_add(Duration::from_secs(edge.expires_at)));
        ends.filter_map(|end| end.duration_since(now).ok()).min().unwrap_or(Duration::MAX)
    }

    /// The key goes first: without it there is nothing left to fence.
    async fn remove(&self, entered: &mut Entered<'_>, name: &str) -> Result<(), Error> {
        let _edge = self.context.locks.edge(entered, name).await;
        let known = self.context.ledger.desired().edges().get(name).cloned();
        let Some(EdgeRecord { ip, public_key, .. }) = known else { return Ok(()) };
        let issued = PeerId { scope: DeviceScope::Global, public_key };
        // A failure here leaves the edge on record with its fence, and the sweep tries again.
        let removal = self.peers.remove_issued(&issued).await?;
        self.context.host.networks.detach(&AttachmentId::Edge(name.to_owned())).await?;
        self.context
            .ledger
            .record(|desired| {
                let mut changes = vec![Change::Edge(name.to_owned(), None), Change::Peer(issued.clone(), None)];
                changes.extend(self.context.rest(desired, ip));
                Ok(changes)
            })
            .await?;
        self.peers.issued_is_forgotten(&issued, removal).await
    }
}

/// Sweeps until the engine is dropped.
pub(super) fn spawn(engine: &Arc<Engine>) {
    tokio::spawn(run(Arc::downgrade(engine), Arc::clone(&engine.areas.edges.minted)));
}

/// Sweeps now and then, and also at the moment in which the time of an edge is over.
async fn run(engine: Weak<Engine>, minted: Arc<Notify>) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut ends = SWEEP;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = tokio::time::sleep(ends) => {}
            () = minted.notified() => {}
        }
        let Some(engine) = engine.upgrade() else { return };
        let edges = &engine.areas.edges;
        edges.sweep(edges.context.now()).await;
        ends = edges.next_ends_in().min(SWEEP);
    }
}
