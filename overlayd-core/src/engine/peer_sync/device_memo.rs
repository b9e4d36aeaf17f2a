//! What the devices were last told, so that telling it again does not reset what they have learned since.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use crate::{
    contract::{PeerChange, PeerEndpoint, PeerStatus},
    desired::{DeviceScope, EndpointSpec, PeerId, PeerRecord},
    keys::PublicKey,
    sync::lock,
};

/// One memo per device.
#[derive(Debug, Default)]
pub(super) struct DeviceMemos(Mutex<HashMap<DeviceScope, Arc<tokio::sync::Mutex<DeviceMemo>>>>);

/// The addresses that the host names of peers stand for.
#[derive(Debug, Default)]
pub(in crate::engine) struct PeerAddresses(Mutex<HashMap<PeerId, SocketAddr>>);

/// What one device was told. Held while it is told more, so that a device that hangs delays no other one.
#[derive(Debug, Default)]
pub(super) struct DeviceMemo {
    endpoints: HashMap<PublicKey, SocketAddr>,
    /// With which a comparison has found the device to be as asked for.
    in_line: Option<SyncKey>,
}

/// What a device has, and what it is compared with. As long as both are the same, so is the outcome.
#[derive(Debug)]
pub(super) struct SyncKey {
    /// The peers that it has, in the order of their keys.
    pub(super) seen: Arc<Vec<PeerStatus>>,
    /// The version of the peers on record.
    pub(super) asked: u64,
    /// Those that are kept out.
    pub(super) withheld: BTreeSet<PublicKey>,
}

impl DeviceMemos {
    /// What a device was told.
    pub(super) fn of(&self, scope: &DeviceScope) -> Arc<tokio::sync::Mutex<DeviceMemo>> {
        Arc::clone(lock(&self.0).entry(scope.clone()).or_default())
    }

    /// Forgets what a device was told, because it is gone.
    pub(super) fn forget(&self, scope: &DeviceScope) {
        lock(&self.0).remove(scope);
    }

    /// Forgets what all devices were told.
    pub(super) fn forget_all(&self) {
        lock(&self.0).clear();
    }
}

impl PeerAddresses {
    /// Where the peer was said to be, if that is an address by now.
    pub(super) fn of(&self, id: &PeerId, record: &PeerRecord) -> Option<SocketAddr> {
        match &record.endpoint {
            EndpointSpec::Roaming => None,
            EndpointSpec::Address(address) => Some(*address),
            EndpointSpec::Name { .. } => lock(&self.0).get(id).copied(),
        }
    }

    /// Notes what a name stands for now; true when that is news.
    pub(in crate::engine) fn note(&self, id: &PeerId, address: SocketAddr) -> bool {
        lock(&self.0).insert(id.clone(), address) != Some(address)
    }

    /// Forgets the addresses of peers that are gone.
    pub(in crate::engine) fn keep(&self, keep: impl Fn(&PeerId) -> bool) {
        lock(&self.0).retain(|id, _| keep(id));
    }
}

impl DeviceMemo {
    /// The endpoint to plan for a peer at `address`: kept when the device was told the same before.
    pub(super) fn endpoint_for(&self, public_key: &PublicKey, address: Option<SocketAddr>) -> PeerEndpoint {
        match address {
            // Told again, the device would drop the endpoint that it has learned from the packets of a peer that
            // roams.
            Some(address) if self.endpoints.get(public_key) != Some(&address) => PeerEndpoint::Set(address),
            _ => PeerEndpoint::Keep,
        }
    }

    /// Whether a comparison with the same has found the device to be as asked for, and it was told nothing since.
    pub(super) fn is_in_line(&self, key: &SyncKey) -> bool {
        // By pointer: the observer hands out the same list until something about a peer changes.
        self.in_line.as_ref().is_some_and(|known| {
            Arc::ptr_eq(&known.seen, &key.seen) && known.asked == key.asked && known.withheld == key.withheld
        })
    }

    /// Notes that the device is as asked for.
    pub(super) fn note_in_line(&mut self, key: SyncKey) {
        self.in_line = Some(key);
    }

    /// Has the next comparison made, also when the last one has found no difference.
    pub(super) fn may_differ(&mut self) {
        self.in_line = None;
    }

    /// Takes it that the device was told this in an earlier run.
    pub(super) fn assume(&mut self, public_key: PublicKey, address: SocketAddr) {
        self.endpoints.insert(public_key, address);
    }

    /// Takes it that the device knows nothing of the peer's endpoint.
    pub(super) fn forget_endpoint(&mut self, public_key: &PublicKey) {
        self.endpoints.remove(public_key);
    }

    /// Notes what the device has accepted.
    pub(super) fn note_accepted(&mut self, changes: &[PeerChange]) {
        for change in changes {
            match change {
                PeerChange::Set(plan) => {
                    if let PeerEndpoint::Set(address) = plan.endpoint {
                        self.endpoints.insert(plan.public_key, address);
                    }
                }
                PeerChange::Remove(public_key) => self.forget_endpoint(public_key),
            }
        }
    }
}
