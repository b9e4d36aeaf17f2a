use super::{
    batch::PacketBatch,
    context::TunnelContext,
    drops::DropReason,
    peer::Peer,
    peer_id::PeerId,
    time::{CurrentTime, SteadyTime},
    timers::TimerAction,
    tunnel::Tunnel,
};

impl Tunnel {
    /// When [`Tunnel::wake`] has something to do next; may be early, never late.
    pub fn next_wake(&self) -> Option<SteadyTime> {
        self.context.deadlines.next()
    }

    /// Does what is due by now, as far as `out` has room for it; call again while [`Tunnel::next_wake`] is not later.
    pub fn wake(&mut self, now: CurrentTime, out: &mut PacketBatch) {
        while out.room() >= Self::STEP {
            let Some((at, id)) = self.context.deadlines.take_due(now.steady) else { return };
            // The entry of a peer that was removed comes up once more and is passed over.
            let Some(peer) = self.peers.get_mut(id) else { continue };
            peer.timers.dequeue(at);
            while out.room() >= Self::STEP
                && let Some(due) = peer.timers.take_due(now.steady)
            {
                peer.act(&mut self.context, id, now.steady, due, out);
            }
            self.context.watch(id, &mut peer.timers);
        }
    }
}

impl Peer {
    fn act(
        &mut self,
        context: &mut TunnelContext,
        id: PeerId,
        now: SteadyTime,
        due: TimerAction,
        out: &mut PacketBatch,
    ) {
        match due {
            TimerAction::Retry => self.initiate(context, id, now, out),
            TimerAction::Handshake => {
                self.timers.handshake_wanted();
                self.initiate(context, id, now, out);
            }
            TimerAction::Keepalive => self.send_keepalive(context, id, now, out),
            TimerAction::GiveUp => {
                tracing::debug!(peer = %self.key, "the peer does not answer");
                // The senders of these packets have given up long ago; sent later they would only confuse.
                let dropped = self.drop_staged(context);
                context.drops.add(DropReason::Unreachable, dropped as u64);
            }
            TimerAction::Wipe => self.drop_sessions(context),
        }
    }
}
