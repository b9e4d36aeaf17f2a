use std::{net::SocketAddr, time::Duration};

use super::{
    batch::PacketBatch,
    context::{TunnelContext, jitter},
    drops::DropReason,
    initiation::OpenedInitiation,
    keypair::{Keypair, PendingHandshake},
    peer::Peer,
    peer_id::PeerId,
    time::{CurrentTime, SteadyTime},
    tunnel::Tunnel,
};
use crate::datagram::MessageHeader;

/// Pause between two initiations of one peer that are answered.
const ANSWER_PAUSE: Duration = Duration::from_millis(20);

impl Tunnel {
    /// Whether a handshake message deserves the work it asks for: it is for our key, and its sender has proved its
    /// address if there are many.
    pub(crate) fn admit(
        &mut self,
        now: SteadyTime,
        from: SocketAddr,
        message: &[u8],
        sender: u32,
        out: &mut PacketBatch,
    ) -> Result<(), DropReason> {
        let TunnelContext { checker, load, .. } = &mut self.context;
        // The order is that of cost: two hashes, then a count, then a cookie, and the Diffie-Hellman only after all of them.
        if !checker.mac1_fits(message) {
            return Err(DropReason::BadMac);
        }
        if !load.needs_proof(now, from.ip()) {
            return Ok(());
        }
        // A valid cookie proves the address but not good intent, hence a limit of its own.
        if checker.mac2_fits(now, from, message) {
            return if load.proved_may_pass(now, from.ip()) { Ok(()) } else { Err(DropReason::RateLimited) };
        }
        if !load.may_demand_proof(now, from.ip()) {
            return Err(DropReason::RateLimited);
        }
        let len = checker.reply(now, from, message, sender, out.next_slot());
        out.push(len, Some(from));
        Err(DropReason::CookieSent)
    }

    /// Answers an initiation.
    pub(crate) fn initiation(
        &mut self,
        now: CurrentTime,
        from: SocketAddr,
        message: &[u8],
        out: &mut PacketBatch,
    ) -> Result<(), DropReason> {
        let identity = &self.context.identity;
        let opened = OpenedInitiation::open(&identity.private, &identity.public, message).ok_or(DropReason::BadAuth)?;
        // The key is known after one Diffie-Hellman. For a key that is no peer the second one is saved.
        let id = self.peers.find(&opened.peer).ok_or(DropReason::UnknownPeer)?;
        let timestamp = opened.timestamp(&identity.private).ok_or(DropReason::BadAuth)?;
        let peer = self.peers.get_mut(id).ok_or(DropReason::UnknownPeer)?;
        // Only a time stamp that is proved to be the peer's counts, and only a later one: a captured initiation is useless.
        if timestamp <= peer.last_timestamp {
            return Err(DropReason::Replay);
        }
        // After the replay check, so that replays do not keep the peer from being answered.
        if peer.last_answered.is_some_and(|last| now.steady.since(last) < ANSWER_PAUSE) {
            return Err(DropReason::RateLimited);
        }
        peer.answer(&mut self.context, id, now.steady, message, out)?;
        // Kept only now that the answer is written: a failure before must not burn the time stamp.
        peer.last_timestamp = timestamp;
        peer.last_answered = Some(now.steady);
        peer.rx_bytes += message.len() as u64;
        // The source of an authentic message is where the peer is now (whitepaper, section 2.1).
        peer.roam(from);
        if let Some((len, _)) = out.last() {
            peer.tx_bytes += len as u64;
            out.redirect_last(from);
        }
        self.context.watch(id, &mut peer.timers);
        Ok(())
    }

    /// Completes a handshake that we began.
    pub(crate) fn response(
        &mut self,
        now: CurrentTime,
        from: SocketAddr,
        receiver: u32,
        message: &[u8],
        out: &mut PacketBatch,
    ) -> Result<(), DropReason> {
        let id = self.context.indices.owner(receiver).ok_or(DropReason::UnknownIndex)?;
        let peer = self.peers.get_mut(id).ok_or(DropReason::UnknownIndex)?;
        let sessions = peer.sessions.as_mut().ok_or(DropReason::UnknownIndex)?;
        let pending =
            sessions.pending.as_mut().filter(|pending| pending.index == receiver).ok_or(DropReason::UnknownIndex)?;
        // The pending handshake stays if this fails: a forged response must not end a handshake that the peer may still answer.
        let len = pending.complete(message, out.next_slot())?;
        if let Some(pending) = sessions.pending.take() {
            sessions.install_as_initiator(&mut self.context, pending.into_keypair(now.steady));
        }
        peer.rx_bytes += message.len() as u64;
        peer.roam(from);
        peer.last_handshake = Some(now.wall);
        peer.timers.keys_derived(now.steady);
        peer.timers.handshake_complete();
        peer.timers.anything_received(now.steady, peer.keepalive);
        // Packets that wait confirm the session as well as the keepalive that boringtun wrote, and save a datagram.
        if peer.sessions.as_ref().is_some_and(|sessions| !sessions.staged.is_empty()) {
            peer.flush(&mut self.context, id, now.steady, out);
        } else {
            out.push(len, Some(from));
            peer.tx_bytes += len as u64;
            peer.timers.anything_sent(now.steady, peer.keepalive);
        }
        self.context.watch(id, &mut peer.timers);
        Ok(())
    }

    /// Keeps a cookie for the next attempt. A cookie reply proves nothing about where the peer is.
    pub(crate) fn cookie_reply(&mut self, now: SteadyTime, receiver: u32, message: &[u8]) -> Result<(), DropReason> {
        let id = self.context.indices.owner(receiver).ok_or(DropReason::UnknownIndex)?;
        let peer = self.peers.get_mut(id).ok_or(DropReason::UnknownIndex)?;
        peer.rx_bytes += message.len() as u64;
        // The endpoint is left alone: the cookie is sealed with a public value, so any host that sees our message can make one.
        let key = *peer.key.as_bytes();
        if peer.sessions().cookies.keep(now, &key, message) { Ok(()) } else { Err(DropReason::BadAuth) }
    }
}

impl Peer {
    fn answer(
        &mut self,
        context: &mut TunnelContext,
        id: PeerId,
        now: SteadyTime,
        message: &[u8],
        out: &mut PacketBatch,
    ) -> Result<(), DropReason> {
        let seed = context.indices.take(id);
        let slot = out.next_slot();
        // The index is taken first, as the response carries it, and goes back when there is no response.
        let answered = Keypair::respond(&context.identity, &self.key, self.psk.as_ref(), seed, now, message, slot);
        let (keypair, len) = answered.inspect_err(|_| context.indices.release(seed.index()))?;
        let sessions = self.sessions();
        sessions.cookies.sign(now, keypair.index, &mut slot[..len]);
        sessions.install_as_responder(context, keypair);
        out.push(len, None);
        self.timers.keys_derived(now);
        self.timers.anything_received(now, self.keepalive);
        self.timers.anything_sent(now, self.keepalive);
        Ok(())
    }

    /// Begins a handshake, unless one was begun a moment ago. An earlier one that waits for its answer ends.
    pub(crate) fn initiate(&mut self, context: &mut TunnelContext, id: PeerId, now: SteadyTime, out: &mut PacketBatch) {
        let Some(endpoint) = self.endpoint else { return };
        if context.handover.is_some() || !self.timers.may_initiate(now) {
            return;
        }
        let seed = context.indices.take(id);
        let slot = out.next_slot();
        let Some((pending, len)) = PendingHandshake::begin(&context.identity, &self.key, self.psk.as_ref(), seed, slot)
        else {
            return context.indices.release(seed.index());
        };
        let sessions = self.sessions();
        sessions.cookies.sign(now, pending.index, &mut slot[..len]);
        // The new initiation has another ephemeral key, so an answer to the earlier one would not fit any more.
        if let Some(abandoned) = sessions.pending.replace(pending) {
            context.indices.release(abandoned.index);
        }
        out.push(len, Some(endpoint));
        self.tx_bytes += len as u64;
        self.timers.initiation_sent(now, jitter());
        self.timers.anything_sent(now, self.keepalive);
    }
}

impl MessageHeader {
    /// The sender's index of a handshake message that must be admitted before it is looked at.
    pub(crate) fn asks_for_work(self) -> Option<u32> {
        match self {
            Self::Initiation { sender } | Self::Response { sender, .. } => Some(sender),
            Self::CookieReply { .. } | Self::Data { .. } => None,
        }
    }
}
