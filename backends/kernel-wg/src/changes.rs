//! Changes of peers as steps that the kernel takes, and the steps that withdraw them.
//!
//! Kernels before 6.16 cannot take a single range from a peer: they replace all ranges of a peer, or move a range to
//! another one. Replacing would leave a moment in which the peer has no range and its packets are lost. So a range that no
//! peer is to have moves to a peer that exists only for that, and that goes at the end.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use overlayd_core::{
    contract::{PeerChange, PeerEndpoint, PeerPlan},
    keys::PublicKey,
};

use crate::peer_cache::{PeerCache, PeerSettings};

/// A peer that never is: ranges that no peer is to hold any longer move to it, and it is removed. That is the one way to
/// take a single range from a living peer on kernels before 6.16, and no packet of its other ranges notices. Should a
/// process be killed in between, this key in `wg show` says what it is.
pub(crate) const PARKING_PEER: PublicKey = PublicKey::from_bytes(*b"overlayd: ranges of nobody, soon");

/// One step to say to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KernelStep {
    /// Makes the peer where it is not, sets all that the plan says and adds the ranges, which leave their holders at the
    /// same moment. Takes no range away.
    Put(PeerPlan),
    /// Removes the peer.
    Remove(PublicKey),
}

/// A batch of changes as steps, and the steps that withdraw them.
#[derive(Debug, Default)]
pub(crate) struct ChangeBatch {
    pub(crate) steps: Vec<KernelStep>,
    pub(crate) undo: Vec<KernelStep>,
}

impl ChangeBatch {
    /// Works out the steps and notes their outcome in the cache.
    ///
    /// The order is that of the changes but for this: a peer that goes for good goes last, and so do ranges that no peer
    /// takes over. A range that moves within the batch thereby goes straight from one peer to the other.
    pub(crate) fn new(cache: &mut PeerCache, changes: &[PeerChange]) -> Self {
        let last_set = last_set(changes);
        let mut undo = BatchUndo::default();
        let (mut steps, mut removals) = (Vec::new(), BTreeSet::new());
        let mut loose = BTreeSet::new();
        for (at, change) in changes.iter().enumerate() {
            match change {
                PeerChange::Set(plan) => {
                    undo.remember(cache, plan);
                    let known = PeerSettings::after(plan, cache.peer(&plan.public_key));
                    let before = cache.peer(&plan.public_key).map(|before| before.ranges.clone()).unwrap_or_default();
                    loose.extend(before.difference(&known.ranges).copied());
                    known.ranges.iter().for_each(|range| {
                        loose.remove(range);
                    });
                    removals.remove(&plan.public_key);
                    cache.note(plan.public_key, known);
                    steps.push(KernelStep::Put(plan.clone()));
                }
                PeerChange::Remove(key) => {
                    undo.remember_peer(cache, key);
                    cache.forget(key);
                    // Set again later in the batch, it starts anew: without its session.
                    if last_set.get(key).is_some_and(|set| *set > at) {
                        steps.push(KernelStep::Remove(*key));
                    } else {
                        removals.insert(*key);
                    }
                }
            }
        }
        steps.extend(give_up(loose));
        steps.extend(removals.into_iter().map(KernelStep::Remove));
        Self { steps, undo: undo.steps() }
    }
}

fn last_set(changes: &[PeerChange]) -> BTreeMap<PublicKey, usize> {
    let sets = changes.iter().enumerate().filter_map(|(at, change)| match change {
        PeerChange::Set(plan) => Some((plan.public_key, at)),
        PeerChange::Remove(_) => None,
    });
    sets.collect()
}

/// Takes the ranges from their holders.
fn give_up(ranges: BTreeSet<IpNet>) -> Vec<KernelStep> {
    if ranges.is_empty() {
        return Vec::new();
    }
    let plan = PeerPlan {
        public_key: PARKING_PEER,
        preshared_key: None,
        endpoint: PeerEndpoint::Keep,
        allowed_ips: ranges.into_iter().collect(),
        keepalive: None,
    };
    vec![KernelStep::Put(plan), KernelStep::Remove(PARKING_PEER)]
}

/// What the batch found, of all that it touches.
#[derive(Debug, Default)]
struct BatchUndo {
    peers: BTreeMap<PublicKey, Option<PeerSettings>>,
    taken: BTreeSet<IpNet>,
}

impl BatchUndo {
    fn remember(&mut self, cache: &PeerCache, plan: &PeerPlan) {
        self.remember_peer(cache, &plan.public_key);
        for range in plan.allowed_ips.iter().map(IpNet::trunc) {
            if let Some(owner) = cache.owner(&range) {
                self.remember_peer(cache, &owner);
            }
            self.taken.insert(range);
        }
    }

    fn remember_peer(&mut self, cache: &PeerCache, key: &PublicKey) {
        self.peers.entry(*key).or_insert_with(|| cache.peer(key).cloned());
    }

    /// First every peer gets back what it had, then what no peer had is given up, then the new peers go.
    fn steps(self) -> Vec<KernelStep> {
        let before = self.peers.iter().filter_map(|(key, known)| known.as_ref().map(|known| (key, known)));
        let mut loose = self.taken.clone();
        before.clone().for_each(|(_, known)| loose.retain(|range| !known.ranges.contains(range)));
        let puts = before.map(|(key, known)| KernelStep::Put(known.plan(*key))).collect::<Vec<_>>();
        let new = self.peers.iter().filter(|(_, known)| known.is_none()).map(|(key, _)| KernelStep::Remove(*key));
        puts.into_iter().chain(give_up(loose)).chain(new).collect()
    }
}

#[cfg(test)]
mod tests;
