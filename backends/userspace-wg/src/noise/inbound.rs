use std::net::SocketAddr;

use super::{
    batch::Batch,
    drops::DropReason,
    ip,
    keypair::{KEEP_FRESH_ON_RECEIVE, Role},
    message::Message,
    peer::MOST_STAGED,
    receive_run::Run,
    time::Now,
    tunnel::Engine,
};

impl Engine {
    /// Free slots that [`Engine::datagram`] and [`Engine::wake`] need in their outputs for one step.
    pub const STEP: usize = MOST_STAGED + 4;

    /// Takes a datagram that came `from` there: at most one packet goes into `packets`, at most [`Engine::STEP`]
    /// datagrams into `replies`.
    pub fn datagram(&mut self, now: Now, from: SocketAddr, datagram: &[u8], packets: &mut Batch, replies: &mut Batch) {
        if self.is_left_aside(from, datagram) {
            return;
        }
        if let Err(reason) = self.dispatch(now, from, datagram, packets, replies) {
            self.env.drops.count(reason);
        }
    }

    fn dispatch(
        &mut self,
        now: Now,
        from: SocketAddr,
        datagram: &[u8],
        packets: &mut Batch,
        replies: &mut Batch,
    ) -> Result<(), DropReason> {
        let message = Message::parse(datagram).ok_or(DropReason::Malformed)?;
        if let Some(sender) = message.asks_for_work() {
            self.admit(now.steady, from, datagram, sender, replies)?;
        }
        match message {
            Message::Data { .. } => self.data(now, from, datagram, packets, replies),
            Message::Initiation { .. } => self.initiation(now, from, datagram, replies),
            Message::Response { receiver, .. } => self.response(now, from, receiver, datagram, replies),
            Message::CookieReply { receiver } => self.cookie_reply(now.steady, receiver, datagram),
        }
    }

    fn data(
        &mut self,
        now: Now,
        from: SocketAddr,
        datagram: &[u8],
        packets: &mut Batch,
        replies: &mut Batch,
    ) -> Result<(), DropReason> {
        let mut run = self.find_run(now, from, datagram, packets)?;
        run.open(datagram, packets);
        self.end_run(now, run, packets, replies);
        Ok(())
    }

    /// Begins a run with this datagram, which is not opened by that; `None` when it is no message of a session, and
    /// [`Engine::datagram`] takes care of it.
    pub fn begin_run(&self, now: Now, from: SocketAddr, datagram: &[u8], packets: &Batch) -> Option<Run> {
        self.find_run(now, from, datagram, packets).ok()
    }

    fn find_run(&self, now: Now, from: SocketAddr, datagram: &[u8], packets: &Batch) -> Result<Run, DropReason> {
        let Some(Message::Data { receiver, .. }) = Message::parse(datagram) else { return Err(DropReason::Malformed) };
        let id = self.env.indices.owner(receiver).ok_or(DropReason::UnknownIndex)?;
        let talk = self.peers.get(id).and_then(|peer| peer.talk.as_ref()).ok_or(DropReason::UnknownIndex)?;
        let keypair = talk.keypair(receiver).ok_or(DropReason::UnknownIndex)?;
        if !keypair.is_usable(now.steady) {
            return Err(DropReason::Expired);
        }
        Ok(Run::new(from, id, keypair.session.clone(), packets.len()))
    }

    /// Does what follows from the messages of a run. Those of its packets that may not go further are taken out of
    /// `packets`; at most [`Engine::STEP`] datagrams go into `replies`.
    ///
    /// # Panics
    /// When `packets` is not what the run has left it as: a packet could pass without its source having been looked at.
    pub fn end_run(&mut self, now: Now, run: Run, packets: &mut Batch, replies: &mut Batch) {
        assert_eq!(run.first + run.packets as usize, packets.len(), "packets of a run were moved");
        self.env.drops.merge(&run.drops);
        if run.messages == 0 {
            return;
        }
        if !self.heard(now, &run, replies) {
            // The peer or its session has gone meanwhile, and what came by it goes too.
            self.env.drops.add(DropReason::UnknownIndex, run.packets);
            return packets.retain_from(run.first, |_| false);
        }
        let mut trusted = None;
        packets.retain_from(run.first, |packet| {
            let source = ip::source(packet);
            let Some(source) = source else { return false };
            if trusted != Some(source) && self.routes.holder(source) != Some(run.peer) {
                self.env.drops.count(DropReason::BadSource);
                return false;
            }
            trusted = Some(source);
            true
        });
    }

    /// Notes that a peer's messages came; `false` when that peer or session is not there any more.
    fn heard(&mut self, now: Now, run: &Run, replies: &mut Batch) -> bool {
        let index = run.session.index();
        let Some(peer) = self.peers.get_mut(run.peer) else { return false };
        let Some(talk) = peer.talk.as_mut() else { return false };
        let Some(keypair) = talk.keypair(index) else { return false };
        let ageing = keypair.role == Role::Initiator && now.steady.since(keypair.created) >= KEEP_FRESH_ON_RECEIVE;
        let confirmed = talk.confirm(&mut self.env, index);
        peer.rx_bytes += run.bytes;
        peer.roam(run.from);
        self.env.heard(now.steady);
        peer.timers.anything_received(now.steady, peer.keepalive);
        if confirmed {
            peer.last_handshake = Some(now.wall);
            peer.timers.handshake_complete();
            peer.flush(&mut self.env, run.peer, now.steady, replies);
        }
        if ageing {
            peer.timers.handshake_wanted();
            peer.initiate(&mut self.env, run.peer, now.steady, replies);
        }
        // The second one says that there is more than a single packet to acknowledge; a third says nothing new.
        for _ in 0..run.contents.min(2) {
            peer.timers.data_received(now.steady);
        }
        self.env.watch(run.peer, peer);
        true
    }
}
