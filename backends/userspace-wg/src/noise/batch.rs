use std::net::SocketAddr;

/// Several packets or datagrams in one block of memory that is reused from round to round.
///
/// They lie one behind the other, so that a run of datagrams for one endpoint can be handed to the host as one
/// (`UDP_SEGMENT`), and a batch of small packets touches little memory: what no packet ever reached is never resident.
#[derive(Debug)]
pub struct PacketBatch {
    store: Vec<u8>,
    filled: Vec<BatchEntry>,
    slots: usize,
    gap: usize,
}

#[derive(Debug, Clone, Copy)]
struct BatchEntry {
    start: usize,
    len: usize,
    endpoint: Option<SocketAddr>,
}

impl PacketBatch {
    /// Bytes offered for one packet: the largest datagram and room to pad and seal it.
    pub const SLOT: usize = 65_536 + 64;
    /// Largest packet that may be put into a slot and still be padded there.
    pub const LARGEST_PACKET: usize = 65_536;
    /// Room behind a packet for padding to a multiple of 16.
    const PADDING: usize = 16;

    /// An empty batch for `slots` packets without a gap between them.
    pub fn with_slots(slots: usize) -> Self {
        Self::with_room(slots, slots * Self::SLOT)
    }

    /// An empty batch for up to `slots` packets in `bytes` bytes, which are at least [`PacketBatch::SLOT`].
    pub fn with_room(slots: usize, bytes: usize) -> Self {
        // A caller asks for room before each packet, and a batch without room for one would be asked for ever.
        assert!(bytes >= Self::SLOT, "a batch takes at least one packet");
        // Zeroed memory of this size comes from the kernel page by page as it is touched: slots that no packet reaches are
        // never resident.
        Self { store: vec![0; bytes], filled: Vec::with_capacity(slots), slots, gap: 0 }
    }

    /// An empty batch for `slots` packets that can be padded where they lie.
    pub fn with_padding(slots: usize) -> Self {
        Self { gap: Self::PADDING, ..Self::with_slots(slots) }
    }

    /// Packets in the batch.
    pub fn len(&self) -> usize {
        self.filled.len()
    }

    /// Whether there is no packet in the batch.
    pub fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    /// Packets of any size that still fit.
    pub fn room(&self) -> usize {
        let by_number = self.slots - self.filled.len();
        // Reckoned with the largest packet, as its length is known only once it is read.
        by_number.min((self.store.len() - self.end()) / Self::SLOT)
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.end()
    }

    /// Memory for the next packet, [`PacketBatch::SLOT`] bytes. Nothing is in the batch before [`PacketBatch::push`].
    ///
    /// # Panics
    /// When the batch is full; callers ask [`PacketBatch::room`] first.
    pub fn next_slot(&mut self) -> &mut [u8] {
        assert!(self.room() > 0, "a full batch was written to");
        let start = self.end();
        &mut self.store[start..start + Self::SLOT]
    }

    /// Keeps the first `len` bytes of the slot that [`PacketBatch::next_slot`] gave.
    pub fn push(&mut self, len: usize, endpoint: Option<SocketAddr>) {
        assert!(len + self.gap <= Self::SLOT && self.room() > 0, "more was written than fits");
        let start = self.end();
        self.filled.push(BatchEntry { start, len, endpoint });
    }

    /// Where the next packet begins. Each one takes at most a slot, so there is always a slot behind it.
    fn end(&self) -> usize {
        self.filled.last().map_or(0, |last| last.start + last.len + self.gap)
    }

    /// The packet at `place`, and where it comes from or goes to.
    pub fn get(&self, place: usize) -> (&[u8], Option<SocketAddr>) {
        let BatchEntry { start, len, endpoint } = self.filled[place];
        (&self.store[start..start + len], endpoint)
    }

    /// The bytes of `count` packets from `first` on, which lie next to each other in a batch without gaps.
    pub(crate) fn span(&self, first: usize, count: usize) -> &[u8] {
        // UDP_SEGMENT takes one block of memory, so nothing may lie between the datagrams.
        debug_assert!(self.gap == 0, "there is padding in between");
        let last = self.filled[first + count - 1];
        &self.store[self.filled[first].start..last.start + last.len]
    }

    /// The packet at `place` with the room for padding behind it, and the length of the packet alone.
    pub fn padded_mut(&mut self, place: usize) -> (&mut [u8], usize) {
        let BatchEntry { start, len, .. } = self.filled[place];
        (&mut self.store[start..start + len + self.gap], len)
    }

    /// The packet at `place`, to be changed.
    pub(crate) fn get_mut(&mut self, place: usize) -> &mut [u8] {
        let BatchEntry { start, len, .. } = self.filled[place];
        &mut self.store[start..start + len]
    }

    /// Takes the last packet away.
    pub(crate) fn pop(&mut self) {
        self.filled.pop();
    }

    /// Keeps those packets from `first` on that `keep` says, in their order; the others leave gaps.
    pub(crate) fn retain_from(&mut self, first: usize, mut keep: impl FnMut(&[u8]) -> bool) {
        let mut kept = first;
        for place in first..self.filled.len() {
            let filled = self.filled[place];
            if keep(&self.store[filled.start..filled.start + filled.len]) {
                // Only the entry moves. The bytes stay where they are, which is cheaper than closing the gap.
                self.filled[kept] = filled;
                kept += 1;
            }
        }
        self.filled.truncate(kept);
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
        let mut batch = PacketBatch::with_slots(2);
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

    #[test]
    fn datagrams_lie_side_by_side_and_packets_leave_room_for_padding() {
        for (mut batch, gap) in [(PacketBatch::with_slots(3), 0), (PacketBatch::with_padding(3), 16)] {
            for len in [100, 1, PacketBatch::LARGEST_PACKET] {
                batch.next_slot().fill(len.to_le_bytes()[0]);
                batch.push(len, None);
            }
            let start = |place: usize| batch.get(place).0.as_ptr() as usize;
            assert_eq!((start(1) - start(0), start(2) - start(1)), (100 + gap, 1 + gap));
            let (padded, len) = batch.padded_mut(0);
            assert_eq!((padded.len(), len), (100 + gap, 100));
            padded[100..].fill(0xee);
            assert_eq!(batch.get(1).0, [1], "padding reaches no neighbour");
        }
    }
}
