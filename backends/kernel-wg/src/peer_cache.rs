//! A device's peers as this process knows them.
//!
//! The kernel lists all peers or none. Without a record of them each change would cost a listing, which for thousands of
//! peers takes longer than the change. The record is dropped whenever a change fails, and read anew before the next one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    num::NonZeroU16,
};

use ipnet::IpNet;
use overlayd_core::{
    contract::{PeerEndpoint, PeerPlan},
    keys::{PresharedKey, PublicKey},
};

/// What a device's peers are, as last read from the kernel and changed by us since. The kernel cannot be asked for one
/// peer, only for all; with this, a change costs what it changes and not what is there.
#[derive(Debug, Clone, Default)]
pub(crate) struct PeerCache {
    /// Index of the interface it speaks of: another device of the same name has another cache.
    pub(crate) index: u32,
    /// The device's own key, once it has one.
    pub(crate) own: Option<PublicKey>,
    peers: BTreeMap<PublicKey, PeerSettings>,
    owners: BTreeMap<IpNet, PublicKey>,
}

/// A peer's settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct PeerSettings {
    pub(crate) preshared_key: Option<PresharedKey>,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) keepalive: Option<NonZeroU16>,
    pub(crate) ranges: BTreeSet<IpNet>,
}

impl PeerCache {
    pub(crate) fn new(index: u32, own: Option<PublicKey>) -> Self {
        Self { index, own, ..Self::default() }
    }

    pub(crate) fn peer(&self, key: &PublicKey) -> Option<&PeerSettings> {
        self.peers.get(key)
    }

    pub(crate) fn owner(&self, range: &IpNet) -> Option<PublicKey> {
        self.owners.get(range).copied()
    }

    /// Notes a peer; a range that another peer held moves to it.
    pub(crate) fn note(&mut self, key: PublicKey, known: PeerSettings) {
        self.forget(&key);
        for range in &known.ranges {
            if let Some(loser) = self.owners.insert(*range, key).and_then(|loser| self.peers.get_mut(&loser)) {
                loser.ranges.remove(range);
            }
        }
        self.peers.insert(key, known);
    }

    /// Strikes a peer out, with its ranges.
    pub(crate) fn forget(&mut self, key: &PublicKey) {
        for range in self.peers.remove(key).into_iter().flat_map(|known| known.ranges) {
            self.owners.remove(&range);
        }
    }
}

impl PeerSettings {
    /// What the peer is once the plan is carried out on what it was.
    pub(crate) fn after(plan: &PeerPlan, before: Option<&Self>) -> Self {
        let endpoint = match plan.endpoint {
            PeerEndpoint::Set(endpoint) => Some(endpoint),
            PeerEndpoint::Keep => before.and_then(|before| before.endpoint),
        };
        let ranges = plan.allowed_ips.iter().map(IpNet::trunc).collect();
        Self { preshared_key: plan.preshared_key.clone(), endpoint, keepalive: plan.keepalive, ranges }
    }

    /// The plan that would make it so.
    pub(crate) fn plan(&self, public_key: PublicKey) -> PeerPlan {
        PeerPlan {
            public_key,
            preshared_key: self.preshared_key.clone(),
            endpoint: self.endpoint.map_or(PeerEndpoint::Keep, PeerEndpoint::Set),
            allowed_ips: self.ranges.iter().copied().collect(),
            keepalive: self.keepalive,
        }
    }
}
