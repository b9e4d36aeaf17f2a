use std::collections::HashMap;

use overlayd_core::keys::PublicKey;

use super::{peer::Peer, peer_id::PeerId};

/// The peers by place and by key.
#[derive(Default)]
pub(crate) struct PeerTable {
    places: Vec<Option<Box<Peer>>>,
    free: Vec<PeerId>,
    by_key: HashMap<PublicKey, PeerId>,
    /// Grows whenever something about a peer may have changed.
    version: u64,
}

impl PeerTable {
    pub(crate) fn find(&self, key: &PublicKey) -> Option<PeerId> {
        self.by_key.get(key).copied()
    }

    pub(crate) fn get(&self, id: PeerId) -> Option<&Peer> {
        self.places.get(id.0 as usize)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        // Counted for the borrow, not for a change: whether something is changed by it is not known here, and a version that
        // grows too often costs one comparison of lists.
        self.version += 1;
        self.places.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// The same for as long as nothing about the peers changes.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn insert(&mut self, peer: Peer) -> PeerId {
        self.version += 1;
        let id = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            PeerId(u32::try_from(self.places.len() - 1).expect("a device has fewer than 2^32 peers"))
        });
        // A place that was freed is used again, so ids stay small; sessions of the earlier peer are gone with it.
        self.by_key.insert(peer.key, id);
        self.places[id.0 as usize] = Some(Box::new(peer));
        id
    }

    pub(crate) fn remove(&mut self, key: &PublicKey) -> Option<Box<Peer>> {
        self.version += 1;
        let id = self.by_key.remove(key)?;
        self.free.push(id);
        self.places[id.0 as usize].take()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn keys(&self) -> Vec<PublicKey> {
        self.by_key.keys().copied().collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.places.iter().flatten().map(|peer| &**peer)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (PeerId, &mut Peer)> {
        self.version += 1;
        (0..).map(PeerId).zip(&mut self.places).filter_map(|(id, place)| Some((id, place.as_deref_mut()?)))
    }
}
