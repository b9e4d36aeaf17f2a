use std::{net::SocketAddr, sync::Arc};

use super::{
    batch::PacketBatch,
    drops::{DropCounts, DropReason},
    peer_id::PeerId,
    session::{OpenedMessage, Session},
};
use crate::datagram::DATA_OVERHEAD;

/// Messages of one session that arrived one after the other from one address.
///
/// It begins and ends with the tunnel ([`Tunnel::begin_run`](super::Engine::begin_run),
/// [`Tunnel::end_run`](super::Engine::end_run)); the work in between needs none, so that another thread can have it.
pub struct ReceiveRun {
    pub(super) from: SocketAddr,
    pub(super) peer: PeerId,
    pub(super) session: Arc<Session>,
    /// Place of its first packet.
    pub(super) first: usize,
    /// Authentic messages.
    pub(super) messages: u64,
    /// Those with content.
    pub(super) contents: u64,
    /// Those with a packet.
    pub(super) packets: u64,
    /// Bytes of the authentic messages, as on the wire.
    pub(super) bytes: u64,
    pub(super) drops: DropCounts,
}

impl ReceiveRun {
    pub(super) fn new(from: SocketAddr, peer: PeerId, session: Arc<Session>, first: usize) -> Self {
        Self {
            from,
            peer,
            session,
            first,
            messages: 0,
            contents: 0,
            packets: 0,
            bytes: 0,
            drops: DropCounts::default(),
        }
    }

    /// Whether the datagram goes on with this run.
    pub fn goes_on_with(&self, from: SocketAddr, datagram: &[u8]) -> bool {
        const DATA: [u8; 4] = [4, 0, 0, 0];
        // The bytes are compared as they are, which costs less than parsing each header of a long run.
        from == self.from
            && datagram.len() >= DATA_OVERHEAD
            && datagram[..4] == DATA
            && datagram[4..8] == self.session.index().to_le_bytes()
    }

    /// Decrypts one message; its packet goes into `packets`, which has room for one.
    pub fn open(&mut self, datagram: &[u8], packets: &mut PacketBatch) {
        let opened = match self.session.open(datagram, packets.next_slot()) {
            Ok(opened) => opened,
            Err(reason) => return self.drops.count(reason),
        };
        self.messages += 1;
        self.bytes += datagram.len() as u64;
        match opened {
            OpenedMessage::Keepalive => return,
            OpenedMessage::Garbage => self.drops.count(DropReason::Malformed),
            OpenedMessage::Packet { len, .. } => {
                packets.push(len, None);
                self.packets += 1;
            }
        }
        // A keepalive has returned above: it must not start the timer that answers data with a keepalive.
        self.contents += 1;
    }
}
