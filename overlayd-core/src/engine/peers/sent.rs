//! What the device was last told, so that saying it again does not reset what it has learned since.

use std::{collections::HashMap, net::SocketAddr};

use crate::{
    contract::{PeerChange, PeerEndpoint},
    desired::{EndpointSpec, PeerId, PeerRecord},
    keys::PublicKey,
};

/// The endpoints that the device was told, and the addresses that names stood for.
#[derive(Debug, Default)]
pub(in crate::engine) struct Sent {
    endpoints: HashMap<PeerId, SocketAddr>,
    resolved: HashMap<PeerId, SocketAddr>,
}

impl Sent {
    /// The endpoint to plan for a peer: kept when the device was told the same before.
    pub(super) fn endpoint_for(&self, id: &PeerId, record: &PeerRecord) -> PeerEndpoint {
        match self.address_of(id, record) {
            Some(address) if self.endpoints.get(id) != Some(&address) => PeerEndpoint::Set(address),
            _ => PeerEndpoint::Keep,
        }
    }

    /// Takes it that the device was told of the peer in an earlier run.
    pub(super) fn assume(&mut self, id: &PeerId, record: &PeerRecord) {
        if let Some(address) = self.address_of(id, record) {
            self.endpoints.insert(id.clone(), address);
        }
    }

    /// Takes it that the device knows nothing of the peer's endpoint.
    pub(super) fn doubt(&mut self, id: &PeerId) {
        self.endpoints.remove(id);
    }

    /// Notes what the device of `service` has accepted.
    pub(in crate::engine) fn note(&mut self, service: Option<&str>, changes: &[PeerChange]) {
        let id = |public_key: PublicKey| PeerId { service: service.map(Into::into), public_key };
        for change in changes {
            match change {
                PeerChange::Set(plan) => {
                    if let PeerEndpoint::Set(address) = plan.endpoint {
                        self.endpoints.insert(id(plan.public_key), address);
                    }
                }
                PeerChange::Remove(public_key) => {
                    self.endpoints.remove(&id(*public_key));
                }
            }
        }
    }

    /// Notes what a name stands for now; true when that is news.
    pub(super) fn resolve(&mut self, id: &PeerId, address: SocketAddr) -> bool {
        self.resolved.insert(id.clone(), address) != Some(address)
    }

    /// Forgets names of peers that are gone.
    pub(super) fn keep_names(&mut self, keep: impl Fn(&PeerId) -> bool) {
        self.resolved.retain(|id, _| keep(id));
    }

    /// Forgets what the device of `service` was told, because it is gone.
    pub(in crate::engine) fn forget_device(&mut self, service: Option<&str>) {
        self.endpoints.retain(|id, _| id.service.as_deref() != service);
    }

    /// Forgets what all devices were told.
    pub(in crate::engine) fn forget_all(&mut self) {
        self.endpoints.clear();
    }

    fn address_of(&self, id: &PeerId, record: &PeerRecord) -> Option<SocketAddr> {
        match &record.endpoint {
            EndpointSpec::Roaming => None,
            EndpointSpec::Address(address) => Some(*address),
            EndpointSpec::Name { .. } => self.resolved.get(id).copied(),
        }
    }
}
