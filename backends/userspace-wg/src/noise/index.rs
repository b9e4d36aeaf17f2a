use fnv::FnvHashMap;
use rand_core::{OsRng, RngCore};

use super::peer_id::PeerId;

/// Receiver indices in use and the peer each belongs to.
///
/// Indices are random, so that an observer cannot count our peers or tell one's sessions from another's.
#[derive(Debug, Default)]
pub(crate) struct IndexTable(FnvHashMap<u32, PeerId>);

impl IndexTable {
    /// Takes a free index for `peer`, as the 24 bits that boringtun asks for.
    ///
    /// boringtun appends a cyclic byte, which is 1 for the first and only handshake of each of our tunnels.
    pub(crate) fn take(&mut self, peer: PeerId) -> IndexSeed {
        loop {
            // A collision is found by the entry and drawn again; with 24 bits that is rare up to thousands of sessions.
            let seed = IndexSeed(OsRng.next_u32() >> 8);
            if let std::collections::hash_map::Entry::Vacant(free) = self.0.entry(seed.index()) {
                free.insert(peer);
                return seed;
            }
        }
    }

    /// The peer that holds `index`.
    pub(crate) fn owner(&self, index: u32) -> Option<PeerId> {
        self.0.get(&index).copied()
    }

    /// Gives `index` back.
    pub(crate) fn release(&mut self, index: u32) {
        self.0.remove(&index);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The 24 random bits of an index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexSeed(u32);

impl IndexSeed {
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// The index as sent on the wire.
    pub(crate) fn index(self) -> u32 {
        self.0 << 8 | 1
    }
}
