use std::net::SocketAddr;

use super::{
    batch::PacketBatch,
    drops::DropReason,
    ip,
    keypair::{HandshakeRole, KEEP_FRESH_ON_RECEIVE},
    peer::MOST_STAGED,
    receive_run::ReceiveRun,
    time::CurrentTime,
    tunnel::Tunnel,
};
use crate::datagram::{MessageHeader, WireGuardMessage};

impl Tunnel {
    /// Free slots that [`Tunnel::message`] and [`Tunnel::wake`] need in their outputs for one step.
    pub const STEP: usize = MOST_STAGED + 4;

    /// Takes a message that came `from` there: at most one packet goes into `packets`, at most [`Tunnel::STEP`]
    /// datagrams into `replies`.
    pub fn message(
        &mut self,
        now: CurrentTime,
        from: SocketAddr,
        message: WireGuardMessage<'_>,
        packets: &mut PacketBatch,
        replies: &mut PacketBatch,
    ) {
        if self.is_for_successor(from, message) {
            return;
        }
        if let Err(reason) = self.dispatch(now, from, message, packets, replies) {
            self.context.drops.count(reason);
        }
    }

    fn dispatch(
        &mut self,
        now: CurrentTime,
        from: SocketAddr,
        message: WireGuardMessage<'_>,
        packets: &mut PacketBatch,
        replies: &mut PacketBatch,
    ) -> Result<(), DropReason> {
        let WireGuardMessage { header, bytes } = message;
        if let Some(sender) = header.asks_for_work() {
            self.admit(now.steady, from, bytes, sender, replies)?;
        }
        match header {
            MessageHeader::Data { receiver, .. } => {
                let mut run = self.find_run(now, from, receiver, packets)?;
                run.open(bytes, packets);
                self.end_run(now, run, packets, replies);
                Ok(())
            }
            MessageHeader::Initiation { .. } => self.initiation(now, from, bytes, replies),
            MessageHeader::Response { receiver, .. } => self.response(now, from, receiver, bytes, replies),
            MessageHeader::CookieReply { receiver } => self.cookie_reply(now.steady, receiver, bytes),
        }
    }

    /// Begins a run with this message, which is not opened by that; `None` when it belongs to no session, and
    /// [`Tunnel::message`] takes care of it.
    pub fn begin_run(
        &self,
        now: CurrentTime,
        from: SocketAddr,
        message: WireGuardMessage<'_>,
        packets: &PacketBatch,
    ) -> Option<ReceiveRun> {
        match message.header {
            // An error is found, and counted, again by `message`.
            MessageHeader::Data { receiver, .. } => self.find_run(now, from, receiver, packets).ok(),
            _ => None,
        }
    }

    fn find_run(
        &self,
        now: CurrentTime,
        from: SocketAddr,
        receiver: u32,
        packets: &PacketBatch,
    ) -> Result<ReceiveRun, DropReason> {
        let id = self.context.indices.owner(receiver).ok_or(DropReason::UnknownIndex)?;
        let sessions = self.peers.get(id).and_then(|peer| peer.sessions.as_ref()).ok_or(DropReason::UnknownIndex)?;
        let keypair = sessions.keypair(receiver).ok_or(DropReason::UnknownIndex)?;
        if !keypair.is_usable(now.steady) {
            return Err(DropReason::Expired);
        }
        Ok(ReceiveRun::new(from, id, keypair.session.clone(), packets.len()))
    }

    /// Does what follows from the messages of a run. Those of its packets that may not go further are taken out of
    /// `packets`; at most [`Tunnel::STEP`] datagrams go into `replies`.
    ///
    /// # Panics
    /// When `packets` is not what the run has left it as: a packet could pass without its source having been looked at.
    pub fn end_run(&mut self, now: CurrentTime, run: ReceiveRun, packets: &mut PacketBatch, replies: &mut PacketBatch) {
        // A packet that moved would escape the check of its source below, which is what AllowedIPs promise.
        assert_eq!(run.first + run.packets as usize, packets.len(), "packets of a run were moved");
        self.context.drops.merge(&run.drops);
        if run.messages == 0 {
            return;
        }
        if !self.note_received(now, &run, replies) {
            // Decryption runs without the lock: the peer or its session was removed during it, and its packets go with it.
            self.context.drops.add(DropReason::UnknownIndex, run.packets);
            return packets.retain_from(run.first, |_| false);
        }
        let mut trusted = None;
        packets.retain_from(run.first, |packet| {
            let Some(source) = ip::source(packet) else { return false };
            // Packets of a run mostly have one source, and one look-up in the trie is enough for them.
            if trusted != Some(source) && self.allowed_ips.holder(source) != Some(run.peer) {
                self.context.drops.count(DropReason::BadSource);
                return false;
            }
            trusted = Some(source);
            true
        });
    }

    /// Notes that a peer's messages came; `false` when that peer or session is not there any more.
    fn note_received(&mut self, now: CurrentTime, run: &ReceiveRun, replies: &mut PacketBatch) -> bool {
        let index = run.session.index();
        let Some(peer) = self.peers.get_mut(run.peer) else { return false };
        let Some(sessions) = peer.sessions.as_mut() else { return false };
        let Some(keypair) = sessions.keypair(index) else { return false };
        // Only the initiator renews, so that both sides do not begin at the same moment (whitepaper, section 6.2).
        let ageing =
            keypair.role == HandshakeRole::Initiator && now.steady.since(keypair.created) >= KEEP_FRESH_ON_RECEIVE;
        let confirmed = sessions.confirm(&mut self.context, index);
        peer.rx_bytes += run.bytes;
        peer.roam(run.from);
        self.context.note_received(now.steady);
        peer.timers.anything_received(now.steady, peer.keepalive);
        // The first message on a session that answers an initiation proves that the initiator has the keys as well.
        if confirmed {
            peer.last_handshake = Some(now.wall);
            peer.timers.handshake_complete();
            peer.flush(&mut self.context, run.peer, now.steady, replies);
        }
        if ageing {
            peer.timers.handshake_wanted();
            peer.initiate(&mut self.context, run.peer, now.steady, replies);
        }
        // The second one says that there is more than a single packet to acknowledge; a third says nothing new.
        for _ in 0..run.contents.min(2) {
            peer.timers.data_received(now.steady);
        }
        self.context.watch(run.peer, &mut peer.timers);
        true
    }
}
