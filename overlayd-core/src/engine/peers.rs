//! Peers of the devices. A device is told what the record says at that moment, so the order in which requests reach it
//! does not matter.

mod names;
mod sent;
mod undo;

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use ipnet::IpNet;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard};

use self::sent::{Basis, Told};
pub(super) use self::{names::spawn as spawn_resolver, sent::Sent, undo::as_of_now};
use super::{
    Engine, Error,
    locks::Key,
    parse::{self, MOST_RANGES},
    record::Undo,
};
use crate::{
    contract::{self, PeerChange, PeerEndpoint, PeerStatus},
    desired::{Change, Desired, EndpointSpec, Origin, PeerId, PeerRecord},
    ipc::Turn,
    names::LinkName,
    plan,
    protocol::{PeerScope, PeerSpec, Response},
};

impl Engine {
    pub(super) async fn add_peer(&self, turn: Turn, spec: PeerSpec, scope: PeerScope) -> Result<Response, Error> {
        let record = PeerRecord {
            endpoint: parse::endpoint(&spec.endpoint)?,
            allowed_ips: parse::allowed_ips(&spec.allowed_ips)?,
            keepalive: parse::keepalive(spec.persistent_keepalive_secs)?,
            candidates: parse::candidates(spec.candidates),
            origin: Origin::Asked,
        };
        let id = self.peer_id(&spec.public_key, scope)?;
        let _world = self.world.read().await;
        let _peer = self.lock_peer(&id).await;
        if let EndpointSpec::Name { host, port } = &record.endpoint {
            self.resolve_at_once(&id, host, *port).await;
        }
        self.change_peer(turn, &id, |desired| Ok(put(desired, &id, record))).await
    }

    pub(super) async fn remove_peer(&self, turn: Turn, pubkey: &str, scope: PeerScope) -> Result<Response, Error> {
        let id = self.peer_id(pubkey, scope)?;
        let _world = self.world.read().await;
        let _peer = self.lock_peer(&id).await;
        self.change_peer(turn, &id, |desired| {
            Ok(desired.peer(&id).map(|_| Change::Peer(id.clone(), None)).into_iter().collect())
        })
        .await
    }

    pub(super) async fn add_allowed_ip(
        &self,
        turn: Turn,
        pubkey: &str,
        cidr: &str,
        scope: PeerScope,
    ) -> Result<Response, Error> {
        let range = parse::allowed_ip("CIDR", cidr)?;
        let id = self.peer_id(pubkey, scope)?;
        let _world = self.world.read().await;
        let _peer = self.lock_peer(&id).await;
        self.change_peer(turn, &id, |desired| {
            let known = desired.peer(&id).ok_or_else(|| {
                Error::Missing(format!("cannot add allowed_ip {range} to unknown peer {pubkey}; call add_peer first"))
            })?;
            let mut record = (**known).clone();
            if record.allowed_ips.contains(&range) {
                return Ok(vec![]);
            }
            record.allowed_ips.push(range);
            parse::at_most("allowed_ips", MOST_RANGES, record.allowed_ips.len())?;
            Ok(put(desired, &id, record))
        })
        .await
    }

    pub(super) async fn remove_allowed_ip(
        &self,
        turn: Turn,
        pubkey: &str,
        cidr: &str,
        scope: PeerScope,
    ) -> Result<Response, Error> {
        let range = parse::allowed_ip("CIDR", cidr)?;
        let id = self.peer_id(pubkey, scope)?;
        let _world = self.world.read().await;
        let _peer = self.lock_peer(&id).await;
        self.change_peer(turn, &id, |desired| {
            let held = desired.peer(&id).filter(|known| known.allowed_ips.contains(&range));
            Ok(held.map(|known| Change::Peer(id.clone(), Some(without(known, &[range])))).into_iter().collect())
        })
        .await
    }

    /// Tells a device all its peers on record, and to forget those that are not. Peers it knows keep the endpoint they
    /// were last heard from.
    pub(super) async fn send_all_peers(&self, service: Option<&str>) -> Result<(), Error> {
        let Some(device) = device_of(&self.desired(), service) else { return Ok(()) };
        let observed = match service {
            None => self.look_at_devices().await?,
            Some(_) => self.host.observe_devices().await?,
        };
        let seen = observed.into_iter().find(|status| status.name == device).map(|status| status.peers);
        let seen = seen.unwrap_or_default();
        let told = self.sent.to(service);
        let mut told = told.lock().await;
        let changes = {
            let (desired, withheld) = (self.desired(), self.withheld());
            let basis = Basis { seen, asked: desired.peers_version(), withheld: withheld.clone() };
            if told.is_in_line(&basis) {
                return Ok(());
            }
            let changes = self.compare(&mut told, &basis, desired.peers_of(service));
            if changes.is_empty() {
                told.in_line(basis);
            }
            changes
        };
        if !changes.is_empty() {
            self.host.change_peers(&device, &changes).await?;
            told.note(&changes);
            self.look.notify_one();
        }
        Ok(())
    }

    /// What to tell a device that has the peers in `basis`, so that it has those that are asked for.
    fn compare<'a>(
        &self,
        told: &mut Told,
        basis: &Basis,
        asked: impl Iterator<Item = (&'a PeerId, &'a Arc<PeerRecord>)>,
    ) -> Vec<PeerChange> {
        let (mut strangers, mut changes) = (Vec::new(), Vec::new());
        // Both are in the order of their keys.
        let mut seen = basis.seen.iter().peekable();
        for (id, record) in asked.filter(|(id, _)| !basis.withheld.contains(&id.public_key)) {
            strangers.extend(std::iter::from_fn(|| seen.next_if(|peer| peer.public_key < id.public_key)));
            let peer = seen.next_if(|peer| peer.public_key == id.public_key);
            match (peer.and_then(|peer| peer.endpoint), self.sent.address_of(id, record)) {
                (None, _) => told.doubt(&id.public_key),
                (Some(_), Some(address)) => told.assume(id.public_key, address),
                (Some(_), None) => {}
            }
            let change = self.set(told, id, record);
            if !peer.is_some_and(|peer| is_as_planned(peer, &change)) {
                changes.push(change);
            }
        }
        strangers.extend(seen);
        strangers.into_iter().map(|peer| PeerChange::Remove(peer.public_key)).chain(changes).collect()
    }

    /// Tells the device of `ids`, which all are on the same one, what the record says of them now. Without a device
    /// there is nobody to tell.
    pub(super) async fn send_peers(&self, ids: &[PeerId]) -> Result<(), Error> {
        let Some(first) = ids.first() else { return Ok(()) };
        let service = first.service.as_deref();
        let told = self.sent.to(service);
        let mut told = told.lock().await;
        // Until a pass has looked again: this may fail, and it may come after one that has looked.
        told.may_differ();
        let (device, changes) = {
            let (desired, withheld) = (self.desired(), self.withheld());
            let Some(device) = device_of(&desired, service) else { return Ok(()) };
            let change = |id: &PeerId| match desired.peer(id) {
                Some(record) if !withheld.contains(&id.public_key) => self.set(&told, id, record),
                Some(_) | None => PeerChange::Remove(id.public_key),
            };
            (device, ids.iter().map(change).collect::<Vec<_>>())
        };
        // Asked before the device is: a set-up that ends in between has told it of these peers, which are on record.
        let coming_up = service.is_none() && self.coming_up.load(Ordering::SeqCst) > 0;
        match self.host.change_peers(&device, &changes).await {
            Err(Error::Host { source: contract::Error::NotFound(_), .. }) if coming_up => return Ok(()),
            outcome => outcome?,
        }
        told.note(&changes);
        self.look.notify_one();
        Ok(())
    }

    /// Records what `decide` returns, then tells the device about every peer it names; a device that refuses has the
    /// record taken back.
    async fn change_peer(
        &self,
        turn: Turn,
        id: &PeerId,
        decide: impl FnOnce(&mut Desired) -> Result<Vec<Change>, Error>,
    ) -> Result<Response, Error> {
        let decided = self
            .decide_now(|desired| {
                if let Some(service) = &id.service
                    && desired.service(service).is_none_or(|service| service.dedicated.is_none())
                {
                    return Err(Error::Missing(format!("no dedicated overlay for service {service}")));
                }
                let changes = decide(desired)?;
                let ids: Vec<PeerId> = changes.iter().filter_map(peer_of).collect();
                check_issued(desired, &ids)?;
                Ok((changes, ids))
            })
            .await?;
        drop(turn);
        let (undo, ids) = self.durable(decided).await?;
        let mut told = self.tell(&ids).await;
        if id.service.is_none() && matches!(told, Err(Error::Host { source: contract::Error::NotFound(_), .. })) {
            // Somebody has deleted the device. Made again, it is told all peers on record.
            told = self.reconcile_overlay().await;
        }
        match told {
            Ok(()) => Ok(Response::Ok),
            Err(error) => {
                self.take_back(undo, &ids).await?;
                Err(error)
            }
        }
    }

    /// Peers first, then the routes to them; a dedicated device has one per range.
    async fn tell(&self, ids: &[PeerId]) -> Result<(), Error> {
        self.send_peers(ids).await?;
        match ids.first().and_then(|id| id.service.as_deref()) {
            Some(service) => self.ensure_dedicated_device(service).await,
            None => Ok(()),
        }
    }

    pub(super) async fn take_back(&self, undo: Undo, ids: &[PeerId]) -> Result<(), Error> {
        self.withdraw(undo).await?;
        if let Err(error) = self.tell(ids).await {
            tracing::warn!(%error, "the device may still hold a change that was taken back; it is told again later");
        }
        Ok(())
    }

    fn set(&self, told: &Told, id: &PeerId, record: &PeerRecord) -> PeerChange {
        PeerChange::Set(plan::peer(id.public_key, record, self.sent.endpoint_for(told, id, record)))
    }

    /// Holds the peer, and for a dedicated device its service too, which no teardown may take away meanwhile.
    async fn lock_peer(&self, id: &PeerId) -> (OwnedRwLockWriteGuard<()>, Option<OwnedRwLockReadGuard<()>>) {
        let service = match &id.service {
            Some(service) => Some(self.locks.shared(Key::Service(service.clone())).await),
            None => None,
        };
        (self.locks.exclusive(Key::Peer(id.clone())).await, service)
    }

    fn peer_id(&self, pubkey: &str, scope: PeerScope) -> Result<PeerId, Error> {
        let public_key = parse::public_key("public key", pubkey)?;
        match scope {
            PeerScope::Service { service } => Ok(PeerId { service: Some(service), public_key }),
            PeerScope::Global if public_key == self.public_key => {
                Err(Error::invalid("public key", format_args!("{pubkey} is this node's own key")))
            }
            PeerScope::Global => Ok(PeerId { service: None, public_key }),
        }
    }
}

fn device_of(desired: &Desired, service: Option<&str>) -> Option<LinkName> {
    match service {
        None => desired.overlay().map(|overlay| overlay.device.clone()),
        Some(service) => desired.service(service)?.dedicated.as_ref().map(|dedicated| dedicated.device.clone()),
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

/// Whether telling the device would change nothing.
fn is_as_planned(peer: &PeerStatus, change: &PeerChange) -> bool {
    let PeerChange::Set(plan) = change else { return false };
    let sorted = |ranges: &[IpNet]| ranges.iter().copied().collect::<BTreeSet<_>>();
    plan.endpoint == PeerEndpoint::Keep
        && plan.keepalive == peer.keepalive
        // Mostly there is one, and a pass compares those of every peer.
        && (plan.allowed_ips == peer.allowed_ips || sorted(&plan.allowed_ips) == sorted(&peer.allowed_ips))
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
        let Some(public_key) = desired.route_holder(&id.service, *range) else { continue };
        let holder = PeerId { service: id.service.clone(), public_key };
        if holder == *id {
            continue;
        }
        tracing::info!(%range, from = %public_key, to = %id.public_key, "an AllowedIP moves between peers");
        match losers.iter_mut().find(|(loser, _)| *loser == holder) {
            Some((_, ranges)) => ranges.push(*range),
            None => losers.push((holder, vec![*range])),
        }
    }
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
