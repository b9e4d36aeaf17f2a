use std::net::SocketAddr;

use super::{
    batch::Batch,
    drops::DropReason,
    engine::Engine,
    env::{Env, MOST_STAGED_IN_ALL, jitter},
    ip,
    moment::{Moment, Now},
    peer::{MOST_STAGED, Peer, PeerId},
};

impl Engine {
    /// Takes a packet from the TUN device: the first `len` bytes of `slot`, whose other 15 or more are
    /// scratch for padding ([`Batch::padded_mut`]). Puts at most two datagrams into `out`.
    pub fn packet(&mut self, now: Now, slot: &mut [u8], len: usize, out: &mut Batch) {
        if let Err(reason) = self.route(now, slot, len, out) {
            self.env.drops.count(reason);
        }
    }

    fn route(&mut self, now: Now, slot: &mut [u8], len: usize, out: &mut Batch) -> Result<(), DropReason> {
        let destination = ip::destination(&slot[..len]).ok_or(DropReason::Malformed)?;
        let id = self.routes.holder(destination).ok_or(DropReason::NoRoute)?;
        let peer = self.peers.get_mut(id).ok_or(DropReason::NoRoute)?;
        let endpoint = peer.endpoint.ok_or(DropReason::NoEndpoint)?;
        let result = peer.send(&mut self.env, id, now.steady, (slot, len), endpoint, out);
        self.env.watch(id, peer);
        result
    }
}

impl Peer {
    fn send(
        &mut self,
        env: &mut Env,
        id: PeerId,
        now: Moment,
        (slot, len): (&mut [u8], usize),
        endpoint: SocketAddr,
        out: &mut Batch,
    ) -> Result<(), DropReason> {
        let padded = ip::padded(len, env.mtu);
        slot[len..padded].fill(0);
        let nothing_waits = self.talk.as_ref().is_none_or(|talk| talk.staged.is_empty());
        if nothing_waits && self.seal(env, id, now, &slot[..padded], endpoint, out) {
            return Ok(());
        }
        self.stage(env, &slot[..padded])?;
        self.timers.handshake_wanted();
        self.initiate(env, id, now, out);
        Ok(())
    }

    /// Encrypts onto the current session; `false` when there is none that may be used.
    pub(crate) fn seal(
        &mut self,
        env: &mut Env,
        id: PeerId,
        now: Moment,
        packet: &[u8],
        endpoint: SocketAddr,
        out: &mut Batch,
    ) -> bool {
        let Some(current) = self.talk.as_mut().and_then(|talk| talk.current.as_mut()) else { return false };
        if !current.is_usable(now) {
            return false;
        }
        let Some(len) = current.seal(packet, out.next_slot()) else { return false };
        let rekey = current.wants_rekey_on_send(now);
        out.push(len, Some(endpoint));
        self.tx_bytes += len as u64;
        if !packet.is_empty() {
            self.timers.data_sent(now, jitter());
        }
        self.timers.anything_sent(now, self.keepalive);
        if rekey {
            self.timers.handshake_wanted();
            self.initiate(env, id, now, out);
        }
        true
    }

    /// Keeps a padded packet until there is a session. The oldest one makes room, as it is the least use by now.
    fn stage(&mut self, env: &mut Env, packet: &[u8]) -> Result<(), DropReason> {
        if env.leave_aside(packet) {
            return Ok(());
        }
        let staged = &mut self.talk().staged;
        let mut result = Ok(());
        if staged.len() >= MOST_STAGED {
            staged.pop_front();
            env.staged -= 1;
            result = Err(DropReason::QueueFull);
        }
        if env.staged >= MOST_STAGED_IN_ALL {
            return Err(DropReason::QueueFull);
        }
        staged.push_back(packet.to_vec());
        env.staged += 1;
        if let Err(reason) = result {
            env.drops.count(reason);
        }
        Ok(())
    }

    /// Sends what waited for a session.
    pub(crate) fn flush(&mut self, env: &mut Env, id: PeerId, now: Moment, out: &mut Batch) {
        let Some(endpoint) = self.endpoint else { return };
        while out.room() > 1 {
            let Some(packet) = self.talk.as_mut().and_then(|talk| talk.staged.pop_front()) else { return };
            env.staged -= 1;
            if !self.seal(env, id, now, &packet, endpoint, out) {
                env.drops.count(DropReason::Expired);
            }
        }
    }

    /// Sends a keepalive, or what waits in its place, or an initiation where there is no session.
    pub(crate) fn send_keepalive(&mut self, env: &mut Env, id: PeerId, now: Moment, out: &mut Batch) {
        let Some(endpoint) = self.endpoint else { return };
        if !self.seal(env, id, now, &[], endpoint, out) {
            self.timers.handshake_wanted();
            self.initiate(env, id, now, out);
        }
    }
}
