//! What the devices were last told, so that saying it again does not reset what they have learned since.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    contract::{PeerChange, PeerEndpoint, PeerStatus},
    desired::{EndpointSpec, PeerId, PeerRecord},
    keys::PublicKey,
};

/// What each device was told, and the addresses that names stood for.
#[derive(Debug, Default)]
pub(in crate::engine) struct Sent {
    devices: Mutex<HashMap<Option<String>, Arc<tokio::sync::Mutex<Told>>>>,
    resolved: Mutex<HashMap<PeerId, SocketAddr>>,
}

/// What one device was told. Held while it is told more, so that one that hangs keeps nobody from another.
#[derive(Debug, Default)]
pub(in crate::engine) struct Told {
    endpoints: HashMap<PublicKey, SocketAddr>,
    /// With which a comparison has found the device to be as asked for.
    in_line: Option<Basis>,
}

/// With what a device is compared, and what it has. As long as they are the same, so is the outcome.
#[derive(Debug)]
pub(super) struct Basis {
    /// The peers that it has, in the order of their keys.
    pub(super) seen: Arc<Vec<PeerStatus>>,
    /// The version of the peers on record.
    pub(super) asked: u64,
    /// Those that are kept out.
    pub(super) withheld: BTreeSet<PublicKey>,
}

impl Sent {
    /// What the device of `service` was told.
    pub(in crate::engine) fn to(&self, service: Option<&str>) -> Arc<tokio::sync::Mutex<Told>> {
        Arc::clone(lock(&self.devices).entry(service.map(Into::into)).or_default())
    }

    /// The endpoint to plan for a peer: kept when the device was told the same before.
    pub(super) fn endpoint_for(&self, told: &Told, id: &PeerId, record: &PeerRecord) -> PeerEndpoint {
        match self.address_of(id, record) {
            Some(address) if told.endpoints.get(&id.public_key) != Some(&address) => PeerEndpoint::Set(address),
            _ => PeerEndpoint::Keep,
        }
    }

    /// Where the peer was said to be, if that is an address by now.
    pub(super) fn address_of(&self, id: &PeerId, record: &PeerRecord) -> Option<SocketAddr> {
        match &record.endpoint {
            EndpointSpec::Roaming => None,
            EndpointSpec::Address(address) => Some(*address),
            EndpointSpec::Name { .. } => lock(&self.resolved).get(id).copied(),
        }
    }

    /// Notes what a name stands for now; true when that is news.
    pub(super) fn resolve(&self, id: &PeerId, address: SocketAddr) -> bool {
        lock(&self.resolved).insert(id.clone(), address) != Some(address)
    }

    /// Forgets names of peers that are gone.
    pub(super) fn keep_names(&self, keep: impl Fn(&PeerId) -> bool) {
        lock(&self.resolved).retain(|id, _| keep(id));
    }

    /// Forgets what the device of `service` was told, because it is gone.
    pub(in crate::engine) fn forget_device(&self, service: Option<&str>) {
        lock(&self.devices).remove(&service.map(Into::into));
    }

    /// Forgets what all devices were told.
    pub(in crate::engine) fn forget_all(&self) {
        lock(&self.devices).clear();
    }
}

impl Told {
    /// Whether a comparison with the same has found the device to be as asked for, and it was told nothing since.
    pub(super) fn is_in_line(&self, basis: &Basis) -> bool {
        self.in_line.as_ref().is_some_and(|known| {
            Arc::ptr_eq(&known.seen, &basis.seen) && known.asked == basis.asked && known.withheld == basis.withheld
        })
    }

    /// Notes that the device is as asked for.
    pub(super) fn in_line(&mut self, basis: Basis) {
        self.in_line = Some(basis);
    }

    /// Has the next comparison made, whatever the last one has found.
    pub(super) fn may_differ(&mut self) {
        self.in_line = None;
    }

    /// Takes it that the device was told this in an earlier run.
    pub(super) fn assume(&mut self, public_key: PublicKey, address: SocketAddr) {
        self.endpoints.insert(public_key, address);
    }

    /// Takes it that the device knows nothing of the peer's endpoint.
    pub(super) fn doubt(&mut self, public_key: &PublicKey) {
        self.endpoints.remove(public_key);
    }

    /// Notes what the device has accepted.
    pub(in crate::engine) fn note(&mut self, changes: &[PeerChange]) {
        for change in changes {
            match change {
                PeerChange::Set(plan) => {
                    if let PeerEndpoint::Set(address) = plan.endpoint {
                        self.endpoints.insert(plan.public_key, address);
                    }
                }
                PeerChange::Remove(public_key) => self.doubt(public_key),
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
