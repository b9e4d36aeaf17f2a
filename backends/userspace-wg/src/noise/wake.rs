use super::{
    batch::Batch,
    context::Env,
    drops::DropReason,
    peer::{Peer, PeerId},
    time::{Moment, Now},
    timers::Due,
    tunnel::Engine,
};

impl Engine {
    /// When [`Engine::wake`] has something to do next; may be early, never late.
    pub fn next_wake(&self) -> Option<Moment> {
        self.env.deadlines.next()
    }

    /// Does what is due by now, as far as `out` has room for it; call again while [`Engine::next_wake`] is not later.
    pub fn wake(&mut self, now: Now, out: &mut Batch) {
        while out.room() >= Self::STEP {
            let Some((at, id)) = self.env.deadlines.take_due(now.steady) else { return };
            let Some(peer) = self.peers.get_mut(id) else { continue };
            Env::woken(peer, at);
            while out.room() >= Self::STEP
                && let Some(due) = peer.timers.take_due(now.steady)
            {
                peer.act(&mut self.env, id, now.steady, due, out);
            }
            self.env.watch(id, peer);
        }
    }
}

impl Peer {
    fn act(&mut self, env: &mut Env, id: PeerId, now: Moment, due: Due, out: &mut Batch) {
        match due {
            Due::Retry => self.initiate(env, id, now, out),
            Due::Handshake => {
                self.timers.handshake_wanted();
                self.initiate(env, id, now, out);
            }
            Due::Keepalive => self.send_keepalive(env, id, now, out),
            Due::GiveUp => {
                tracing::debug!(peer = %self.key, "the peer does not answer");
                let dropped = self.drop_staged(env);
                env.drops.add(DropReason::Unreachable, dropped as u64);
            }
            Due::Wipe => self.hang_up(env),
        }
    }
}
