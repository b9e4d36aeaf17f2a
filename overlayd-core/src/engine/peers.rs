//! Peers of the global device. The device is told what the record says at that moment, so the order in which requests
//! reach it does not matter.

mod names;
mod sent;

use ipnet::IpNet;

pub(super) use self::{names::spawn as spawn_resolver, sent::Sent};
use super::{Engine, Error, locks::Key, parse, record::Undo};
use crate::{
    contract::PeerChange,
    desired::{Change, Desired, EndpointSpec, PeerId, PeerRecord},
    plan,
    protocol::{PeerScope, PeerSpec, Response},
};

impl Engine {
    pub(super) async fn add_peer(&self, spec: PeerSpec, scope: PeerScope) -> Result<Response, Error> {
        let id = self.peer_id(&spec.public_key, scope)?;
        let record = PeerRecord {
            endpoint: parse::endpoint(&spec.endpoint)?,
            allowed_ips: parse::allowed_ips(&spec.allowed_ips)?,
            keepalive: parse::keepalive(spec.persistent_keepalive_secs)?,
            candidates: spec.candidates,
        };
        let _world = self.world.read().await;
        let _peer = self.locks.exclusive(Key::Peer(id.clone())).await;
        if let EndpointSpec::Name { host, port } = &record.endpoint {
            self.resolve_at_once(&id, host, *port).await;
        }
        self.change_peer(|desired| Ok(put(desired, &id, record))).await
    }

    pub(super) async fn remove_peer(&self, pubkey: &str, scope: PeerScope) -> Result<Response, Error> {
        let id = self.peer_id(pubkey, scope)?;
        let _world = self.world.read().await;
        let _peer = self.locks.exclusive(Key::Peer(id.clone())).await;
        self.change_peer(|desired| Ok(desired.peer(&id).map(|_| Change::Peer(id.clone(), None)).into_iter().collect()))
            .await
    }

    pub(super) async fn add_allowed_ip(&self, pubkey: &str, cidr: &str, scope: PeerScope) -> Result<Response, Error> {
        let id = self.peer_id(pubkey, scope)?;
        let range = parse::allowed_ip("CIDR", cidr)?;
        let _world = self.world.read().await;
        let _peer = self.locks.exclusive(Key::Peer(id.clone())).await;
        self.change_peer(|desired| {
            let known = desired.peer(&id).ok_or_else(|| {
                Error::Missing(format!("cannot add allowed_ip {range} to unknown peer {pubkey}; call add_peer first"))
            })?;
            let mut record = (**known).clone();
            if record.allowed_ips.contains(&range) {
                return Ok(vec![]);
            }
            record.allowed_ips.push(range);
            Ok(put(desired, &id, record))
        })
        .await
    }

    pub(super) async fn remove_allowed_ip(
        &self,
        pubkey: &str,
        cidr: &str,
        scope: PeerScope,
    ) -> Result<Response, Error> {
        let id = self.peer_id(pubkey, scope)?;
        let range = parse::allowed_ip("CIDR", cidr)?;
        let _world = self.world.read().await;
        let _peer = self.locks.exclusive(Key::Peer(id.clone())).await;
        self.change_peer(|desired| {
            let held = desired.peer(&id).filter(|known| known.allowed_ips.contains(&range));
            Ok(held.map(|known| Change::Peer(id.clone(), Some(without(known, &[range])))).into_iter().collect())
        })
        .await
    }

    /// Tells the device all peers on record, and to forget those that are not. Peers it knows keep the endpoint they
    /// were last heard from.
    pub(super) async fn send_all_peers(&self) -> Result<(), Error> {
        let Some(device) = self.desired().overlay().map(|overlay| overlay.device.clone()) else { return Ok(()) };
        let observed = self.host.observe_devices().await?;
        let known = observed.iter().filter(|status| status.name == device).flat_map(|status| &status.peers);
        let mut sent = self.sent.lock().await;
        let changes = {
            let desired = self.desired();
            let mut changes = Vec::new();
            for peer in known {
                let id = PeerId { service: None, public_key: peer.public_key };
                match desired.peer(&id) {
                    Some(record) if peer.endpoint.is_some() => sent.assume(&id, record),
                    Some(_) => {}
                    None => changes.push(PeerChange::Remove(peer.public_key)),
                }
            }
            let global = desired.peers().iter().filter(|(id, _)| id.service.is_none());
            changes.extend(global.map(|(id, record)| set(&sent, id, record)));
            changes
        };
        if !changes.is_empty() {
            self.host.change_peers(&device, &changes).await?;
            sent.note(&changes);
        }
        self.look.notify_one();
        Ok(())
    }

    pub(super) async fn forget_sent(&self) {
        self.sent.lock().await.forget_device();
    }

    /// Records what `decide` returns, then tells the device about every peer it names; a device that refuses has the
    /// record taken back.
    async fn change_peer(
        &self,
        decide: impl FnOnce(&mut Desired) -> Result<Vec<Change>, Error>,
    ) -> Result<Response, Error> {
        let (undo, ids) = self
            .decide(|desired| {
                let changes = decide(desired)?;
                let ids: Vec<PeerId> = changes.iter().filter_map(peer_of).collect();
                Ok((changes, ids))
            })
            .await?;
        match self.send_peers(&ids).await {
            Ok(()) => Ok(Response::Ok),
            Err(error) => {
                self.take_back(undo, &ids).await?;
                Err(error)
            }
        }
    }

    async fn take_back(&self, undo: Undo, ids: &[PeerId]) -> Result<(), Error> {
        self.withdraw(undo).await?;
        if let Err(error) = self.send_peers(ids).await {
            tracing::warn!(%error, "the device may still hold a change that was taken back; it is told again later");
        }
        Ok(())
    }

    /// Tells the device what the record says of these peers now. Without a device there is nobody to tell.
    pub(super) async fn send_peers(&self, ids: &[PeerId]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut sent = self.sent.lock().await;
        let (device, changes) = {
            let desired = self.desired();
            let Some(overlay) = desired.overlay() else { return Ok(()) };
            let changes: Vec<PeerChange> = ids
                .iter()
                .map(|id| match desired.peer(id) {
                    Some(record) => set(&sent, id, record),
                    None => PeerChange::Remove(id.public_key),
                })
                .collect();
            (overlay.device.clone(), changes)
        };
        self.host.change_peers(&device, &changes).await?;
        sent.note(&changes);
        self.look.notify_one();
        Ok(())
    }

    fn peer_id(&self, pubkey: &str, scope: PeerScope) -> Result<PeerId, Error> {
        let public_key = parse::public_key("public key", pubkey)?;
        match scope {
            PeerScope::Service { service } => {
                Err(Error::Missing(format!("no dedicated overlay for service {service}")))
            }
            PeerScope::Global if public_key == self.node_key.public_key() => {
                Err(Error::invalid("public key", format_args!("{pubkey} is this node's own key")))
            }
            PeerScope::Global => Ok(PeerId { service: None, public_key }),
        }
    }
}

fn set(sent: &Sent, id: &PeerId, record: &PeerRecord) -> PeerChange {
    PeerChange::Set(plan::peer(id.public_key, record, sent.endpoint_for(id, record)))
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
