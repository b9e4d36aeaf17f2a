use std::net::SocketAddr;

/// Several packets or datagrams in one block of memory that is reused from round to round.
///
/// Slots lie at a fixed stride; a slot holds the largest UDP datagram. Memory that no packet ever touched is never
/// resident, so the large slots cost address space only.
#[derive(Debug)]
pub struct Batch {
    store: Vec<u8>,
    filled: Vec<Filled>,
    slots: usize,
}

#[derive(Debug, Clone, Copy)]
struct Filled {
    len: usize,
    endpoint: Option<SocketAddr>,
}

impl Batch {
    /// Bytes that fit into a slot: the largest datagram and room to pad and seal it.
    pub const SLOT: usize = 65_536 + 64;
    /// Largest packet that may be put into a slot and still be padded there.
    pub const LARGEST_PACKET: usize = 65_536;
    /// Distance of two slots; not a power of two, so that their first lines do not share one set of the cache.
    const STRIDE: usize = Self::SLOT + 8 * 64 + 64;

    /// An empty batch for `slots` packets.
    pub fn with_slots(slots: usize) -> Self {
        Self { store: vec![0; slots * Self::STRIDE], filled: Vec::with_capacity(slots), slots }
    }

    /// Packets in the batch.
    pub fn len(&self) -> usize {
        self.filled.len()
    }

    /// Whether there is no packet in the batch.
    pub fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    /// Packets that still fit.
    pub fn room(&self) -> usize {
        self.slots - self.filled.len()
    }

    /// Memory for the next packet, [`Batch::SLOT`] bytes. Nothing is in the batch before [`Batch::push`].
    ///
    /// # Panics
    /// When the batch is full; callers ask [`Batch::room`] first.
    pub fn next_slot(&mut self) -> &mut [u8] {
        assert!(self.room() > 0, "a full batch was written to");
        let start = self.filled.len() * Self::STRIDE;
        &mut self.store[start..start + Self::SLOT]
    }

    /// Keeps the first `len` bytes of the slot that [`Batch::next_slot`] gave.
    pub fn push(&mut self, len: usize, endpoint: Option<SocketAddr>) {
        debug_assert!(len <= Self::SLOT && self.room() > 0);
        self.filled.push(Filled { len, endpoint });
    }

    /// The packet at `place`, and where it comes from or goes to.
    pub fn get(&self, place: usize) -> (&[u8], Option<SocketAddr>) {
        let Filled { len, endpoint } = self.filled[place];
        let start = place * Self::STRIDE;
        (&self.store[start..start + len], endpoint)
    }

    /// The whole slot at `place` and the length of its packet.
    pub fn slot_mut(&mut self, place: usize) -> (&mut [u8], usize) {
        let start = place * Self::STRIDE;
        (&mut self.store[start..start + Self::SLOT], self.filled[place].len)
    }

    /// Length and endpoint of the last packet.
    pub(crate) fn last(&self) -> Option<(usize, Option<SocketAddr>)> {
        self.filled.last().map(|filled| (filled.len, filled.endpoint))
    }

    /// Sends the last packet there instead.
    pub(crate) fn redirect_last(&mut self, endpoint: SocketAddr) {
        if let Some(filled) = self.filled.last_mut() {
            filled.endpoint = Some(endpoint);
        }
    }

    /// All packets in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<SocketAddr>)> {
        (0..self.len()).map(|place| self.get(place))
    }

    /// Forgets the packets and keeps the memory.
    pub fn clear(&mut self) {
        self.filled.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cleared_batch_takes_as_many_packets_again() {
        let mut batch = Batch::with_slots(2);
        for round in 0..3u8 {
            for packet in 0..2u8 {
                batch.next_slot()[..2].copy_from_slice(&[round, packet]);
                batch.push(2, None);
            }
            assert_eq!(batch.room(), 0);
            let seen: Vec<_> = batch.iter().map(|(bytes, _)| bytes.to_vec()).collect();
            assert_eq!(seen, [[round, 0], [round, 1]]);
            batch.clear();
        }
    }
}
