//! Compares the peers that a device has with those on record.

use std::{collections::BTreeSet, sync::Arc};

use ipnet::IpNet;

use super::{DeviceMemo, PeerSync, SyncKey};
use crate::{
    contract::{PeerChange, PeerEndpoint, PeerStatus},
    desired::{DeviceScope, PeerId, PeerRecord},
};

impl PeerSync {
    /// What to tell a device that has the peers in `seen`, so that it has those that are asked for. `None` is nothing.
    pub(super) fn difference(
        &self,
        memo: &mut DeviceMemo,
        scope: &DeviceScope,
        seen: Arc<Vec<PeerStatus>>,
    ) -> Option<Vec<PeerChange>> {
        let desired = self.context.ledger.desired();
        let key = SyncKey { seen, asked: desired.peers_version(), withheld: self.withheld().clone() };
        // The periodic pass comes here every few seconds, mostly with nothing new: then 10,000 peers are not compared
        // one by one.
        if memo.is_in_line(&key) {
            return None;
        }
        let changes = self.compare(memo, &key, desired.peers_of(scope.clone()));
        if changes.is_empty() {
            memo.note_in_line(key);
            return None;
        }
        Some(changes)
    }

    fn compare<'a>(
        &self,
        memo: &mut DeviceMemo,
        key: &SyncKey,
        asked: impl Iterator<Item = (&'a PeerId, &'a Arc<PeerRecord>)>,
    ) -> Vec<PeerChange> {
        let mut strangers = Vec::new();
        let mut changes = Vec::new();
        // Both lists are in the order of their keys.
        let mut seen = key.seen.iter().peekable();
        for (id, record) in asked.filter(|(id, _)| !key.withheld.contains(&id.public_key)) {
            strangers.extend(std::iter::from_fn(|| seen.next_if(|peer| peer.public_key < id.public_key)));
            let peer = seen.next_if(|peer| peer.public_key == id.public_key);
            match (peer.and_then(|peer| peer.endpoint), self.addresses.of(id, record)) {
                // The device does not know where the peer is: it is told.
                (None, _) => memo.forget_endpoint(&id.public_key),
                // It does, maybe from the peer itself, which may have moved: what it has learned is kept.
                (Some(_), Some(address)) => memo.assume(id.public_key, address),
                (Some(_), None) => {}
            }
            let change = self.set(memo, id, record);
            if !peer.is_some_and(|peer| is_as_planned(peer, &change)) {
                changes.push(change);
            }
        }
        strangers.extend(seen);
        // Strangers go first: a range that one of them holds would be taken from the peer that is to have it.
        strangers.into_iter().map(|peer| PeerChange::Remove(peer.public_key)).chain(changes).collect()
    }
}

/// Whether telling the device would change nothing.
fn is_as_planned(peer: &PeerStatus, change: &PeerChange) -> bool {
    let PeerChange::Set(plan) = change else { return false };
    plan.endpoint == PeerEndpoint::Keep
        && plan.keepalive == peer.keepalive
        // Mostly there is one range, and a pass compares those of every peer: sets are built only when the lists differ.
        && (plan.allowed_ips == peer.allowed_ips || as_set(&plan.allowed_ips) == as_set(&peer.allowed_ips))
}

fn as_set(ranges: &[IpNet]) -> BTreeSet<IpNet> {
    ranges.iter().copied().collect()
}
