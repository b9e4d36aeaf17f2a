use std::net::SocketAddr;

use super::{
    batch::Batch,
    drops::DropReason,
    engine::Engine,
    keypair::{KEEP_FRESH_ON_RECEIVE, Opened, REJECT_AFTER_MESSAGES, Role},
    message::Message,
    moment::Now,
    peer::MOST_STAGED,
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
            Message::Data { receiver, counter } => {
                self.data(now, from, (receiver, counter), datagram, packets, replies)
            }
            Message::Initiation { .. } => self.initiation(now, from, datagram, replies),
            Message::Response { receiver, .. } => self.response(now, from, receiver, datagram, replies),
            Message::CookieReply { receiver } => self.cookie_reply(now.steady, receiver, datagram),
        }
    }

    fn data(
        &mut self,
        now: Now,
        from: SocketAddr,
        (receiver, counter): (u32, u64),
        datagram: &[u8],
        packets: &mut Batch,
        replies: &mut Batch,
    ) -> Result<(), DropReason> {
        let id = self.env.indices.owner(receiver).ok_or(DropReason::UnknownIndex)?;
        let peer = self.peers.get_mut(id).ok_or(DropReason::UnknownIndex)?;
        let talk = peer.talk.as_mut().ok_or(DropReason::UnknownIndex)?;
        let keypair = talk.keypair(receiver).ok_or(DropReason::UnknownIndex)?;
        if !keypair.is_usable(now.steady) || counter >= REJECT_AFTER_MESSAGES {
            return Err(DropReason::Expired);
        }
        let opened = keypair.open(datagram, packets.next_slot())?;
        let ageing = keypair.role == Role::Initiator && now.steady.since(keypair.created) >= KEEP_FRESH_ON_RECEIVE;
        let confirmed = talk.confirm(&mut self.env, receiver);
        peer.rx_bytes += datagram.len() as u64;
        peer.roam(from);
        self.env.heard(now.steady);
        peer.timers.anything_received(now.steady, peer.keepalive);
        if confirmed {
            peer.last_handshake = Some(now.wall);
            peer.timers.handshake_complete();
            peer.flush(&mut self.env, id, now.steady, replies);
        }
        if ageing {
            peer.timers.handshake_wanted();
            peer.initiate(&mut self.env, id, now.steady, replies);
        }
        if opened != Opened::Keepalive {
            peer.timers.data_received(now.steady);
        }
        self.env.watch(id, peer);
        match opened {
            Opened::Keepalive => Ok(()),
            Opened::Garbage => Err(DropReason::Malformed),
            Opened::Packet { source, .. } if self.routes.holder(source) != Some(id) => Err(DropReason::BadSource),
            Opened::Packet { len, .. } => {
                packets.push(len, None);
                Ok(())
            }
        }
    }
}
