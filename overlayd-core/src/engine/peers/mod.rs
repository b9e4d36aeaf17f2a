//! Peers as they are asked for: recorded, then sent to their device, and taken back when the device refuses.

mod resolver;

use std::sync::Arc;

use ipnet::IpNet;

use self::resolver::PeerResolver;
pub(super) use self::resolver::spawn as spawn_resolver;
use super::{
    Error,
    context::Context,
    ledger::Undo,
    locks::{Entered, PeerHeld},
    networks::ServiceNetworks,
    overlay::Overlay,
    peer_sync::PeerSync,
};
use crate::{
    command::{
        PeerCommand, RangeCommand,
        parse::{MOST_RANGES, at_most},
    },
    contract,
    desired::{Change, Desired, DeviceScope, EndpointSpec, Origin, PeerId, PeerRecord},
    ipc::OrderGuard,
    keys::PublicKey,
    protocol::Response,
};

/// Requests about peers.
#[derive(Debug)]
pub(super) struct Peers {
    context: Arc<Context>,
    sync: Arc<PeerSync>,
    networks: Arc<ServiceNetworks>,
    overlay: Arc<Overlay>,
    resolver: PeerResolver,
}

/// A change that is on record, and how it is taken back.
struct RecordedChange {
    undo: Undo,
    /// The peers that it changed, all on the same device.
    ids: Vec<PeerId>,
}

impl Peers {
    pub(super) fn new(
        context: &Arc<Context>,
        sync: &Arc<PeerSync>,
        networks: &Arc<ServiceNetworks>,
        overlay: &Arc<Overlay>,
    ) -> Self {
        let resolver = PeerResolver::new(context, sync);
        Self {
            context: Arc::clone(context),
            sync: Arc::clone(sync),
            networks: Arc::clone(networks),
            overlay: Arc::clone(overlay),
            resolver,
        }
    }

    pub(super) async fn add(
        &self,
        entered: &mut Entered<'_>,
        order: OrderGuard,
        command: PeerCommand,
    ) -> Result<Response, Error> {
        let PeerCommand { scope, public_key, record } = command;
        let id = self.peer_id(scope, public_key)?;
        let mut peer = self.context.locks.peer(entered, &id).await;
        // Before the record, so that the device is told an address at once. A name that does not resolve delays the
        // answer by a second at most and is no error: the resolver may be on the overlay itself.
        if let EndpointSpec::Name { host, port } = &record.endpoint {
            self.resolver.resolve_at_once(&id, host, *port).await;
        }
        self.change(&mut peer, order, &id, |desired| Ok(put(desired, &id, record))).await
    }

    pub(super) async fn remove(
        &self,
        entered: &mut Entered<'_>,
        order: OrderGuard,
        scope: DeviceScope,
        public_key: PublicKey,
    ) -> Result<Response, Error> {
        let id = self.peer_id(scope, public_key)?;
        let mut peer = self.context.locks.peer(entered, &id).await;
        self.change(&mut peer, order, &id, |desired| {
            Ok(desired.peer(&id).map(|_| Change::Peer(id.clone(), None)).into_iter().collect())
        })
        .await
    }

    pub(super) async fn add_allowed_ip(
        &self,
        entered: &mut Entered<'_>,
        order: OrderGuard,
        command: RangeCommand,
    ) -> Result<Response, Error> {
        let RangeCommand { scope, public_key, range } = command;
        let id = self.peer_id(scope, public_key)?;
        let mut peer = self.context.locks.peer(entered, &id).await;
        self.change(&mut peer, order, &id, |desired| {
            let known = desired.peer(&id).ok_or_else(|| {
                Error::Missing(format!(
                    "cannot add allowed_ip {range} to unknown peer {public_key}; call add_peer first"
                ))
            })?;
            let mut record = (**known).clone();
            if record.allowed_ips.contains(&range) {
                return Ok(vec![]);
            }
            record.allowed_ips.push(range);
            at_most("allowed_ips", MOST_RANGES, record.allowed_ips.len())?;
            Ok(put(desired, &id, record))
        })
        .await
    }

    pub(super) async fn remove_allowed_ip(
        &self,
        entered: &mut Entered<'_>,
        order: OrderGuard,
        command: RangeCommand,
    ) -> Result<Response, Error> {
        let RangeCommand { scope, public_key, range } = command;
        let id = self.peer_id(scope, public_key)?;
        let mut peer = self.context.locks.peer(entered, &id).await;
        self.change(&mut peer, order, &id, |desired| {
            let held = desired.peer(&id).filter(|known| known.allowed_ips.contains(&range));
            Ok(held.map(|known| Change::Peer(id.clone(), Some(without(known, &[range])))).into_iter().collect())
        })
        .await
    }

    /// Records what `decide` returns, then tells the device about every peer it names; a device that refuses has the
    /// record taken back.
    async fn change(
        &self,
        held: &mut PeerHeld<'_>,
        order: OrderGuard,
        id: &PeerId,
        decide: impl FnOnce(&mut Desired) -> Result<Vec<Change>, Error>,
    ) -> Result<Response, Error> {
        let Some(service) = id.scope.service_name() else {
            let change = self.record(order, id, decide).await?;
            let mut told = self.sync.send(&change.ids).await;
            if matches!(told, Err(Error::Host { source: contract::Error::NotFound(_), .. })) {
                // Another program has deleted the device. Made again, it is told all peers on record.
                told = self.overlay.reconcile(held).await;
            }
            return self.conclude(change, told).await;
        };
        // A teardown of the service may not take the device away at the same time.
        let _service = self.context.locks.service_shared(held, service).await;
        let change = self.record(order, id, decide).await?;
        let told = self.tell(&change.ids).await;
        self.conclude(change, told).await
    }

    async fn record(
        &self,
        order: OrderGuard,
        id: &PeerId,
        decide: impl FnOnce(&mut Desired) -> Result<Vec<Change>, Error>,
    ) -> Result<RecordedChange, Error> {
        let decision = self
            .context
            .ledger
            .decide_now(|desired| {
                if let Some(service) = id.scope.service_name()
                    && desired.service(service).is_none_or(|service| service.dedicated.is_none())
                {
                    return Err(Error::Missing(format!("no dedicated overlay for service {service}")));
                }
                let changes = decide(desired)?;
                // All peers that change, not only the one that was asked about: others may lose a range to it.
                let ids: Vec<PeerId> = changes.iter().filter_map(peer_of).collect();
                check_issued(desired, &ids)?;
                Ok((changes, ids))
            })
            .await?;
        // The next request of the connection finds this change already, and may begin while the disk works.
        drop(order);
        let (undo, ids) = self.context.ledger.durable(decision).await?;
        Ok(RecordedChange { undo, ids })
    }

    async fn conclude(&self, change: RecordedChange, told: Result<(), Error>) -> Result<Response, Error> {
        // The record goes back first: the device is then told what is on record, also if other requests have changed
        // it since.
        let Err(error) = told else { return Ok(Response::Ok) };
        self.context.ledger.withdraw(change.undo).await?;
        if let Err(error) = self.tell(&change.ids).await {
            tracing::warn!(%error, "the device may still hold a change that was taken back; it is told again later");
        }
        Err(error)
    }

    /// Peers first, then the routes to them; a dedicated device has one per range.
    async fn tell(&self, ids: &[PeerId]) -> Result<(), Error> {
        // A route to a range that no peer has yet would drop packets; a peer without a route gets none.
        self.sync.send(ids).await?;
        match ids.first().and_then(|id| id.scope.service_name()) {
            Some(service) => self.networks.ensure_device(service).await,
            None => Ok(()),
        }
    }

    /// This node is no peer of its own on the global device. A dedicated device has a key of its own.
    fn peer_id(&self, scope: DeviceScope, public_key: PublicKey) -> Result<PeerId, Error> {
        if scope == DeviceScope::Global && public_key == *self.context.identity.public_key() {
            return Err(Error::invalid("public key", format_args!("{public_key} is this node's own key")));
        }
        Ok(PeerId { scope, public_key })
    }
}

/// Identities that this daemon issued go with the attachment or the edge that they were issued to.
fn check_issued(desired: &Desired, ids: &[PeerId]) -> Result<(), Error> {
    match ids.iter().find(|id| desired.peer(id).is_some_and(|peer| peer.origin == Origin::Issued)) {
        None => Ok(()),
        Some(id) => Err(Error::Conflict(format!(
            "peer {} and its address were issued by this node; detach the guest or revoke the edge instead",
            id.public_key
        ))),
    }
}

fn peer_of(change: &Change) -> Option<PeerId> {
    match change {
        Change::Peer(id, _) => Some(id.clone()),
        _ => None,
    }
}

/// The peer's new record first, then those of the peers that lose a range to it: a device that is told in this order
/// never leaves a range unrouted.
fn put(desired: &Desired, id: &PeerId, record: PeerRecord) -> Vec<Change> {
    let mut losers: Vec<(PeerId, Vec<IpNet>)> = Vec::new();
    for range in &record.allowed_ips {
        // WireGuard moves a range to the peer that was given it last, and does not say so. The peer that loses it is
        // therefore changed on record as well.
        let Some(public_key) = desired.route_holder(&id.scope, *range) else { continue };
        let holder = PeerId { scope: id.scope.clone(), public_key };
        if holder == *id {
            continue;
        }
        tracing::info!(%range, from = %public_key, to = %id.public_key, "an AllowedIP moves between peers");
        match losers.iter_mut().find(|(loser, _)| *loser == holder) {
            Some((_, ranges)) => ranges.push(*range),
            None => losers.push((holder, vec![*range])),
        }
    }
    // A repeated request records nothing, and the device is left alone: told again, it would forget where the peer
    // has roamed to.
    let same = desired.peer(id).is_some_and(|known| **known == record);
    let first = if same { None } else { Some(Change::Peer(id.clone(), Some(record))) };
    let then = losers.into_iter().filter_map(|(loser, ranges)| {
        let known = desired.peer(&loser)?;
        Some(Change::Peer(loser.clone(), Some(without(known, &ranges))))
    });
    first.into_iter().chain(then).collect()
}

fn without(record: &PeerRecord, ranges: &[IpNet]) -> PeerRecord {
    let mut record = record.clone();
    record.allowed_ips.retain(|range| !ranges.contains(range));
    record
}
