use std::{net::SocketAddr, sync::Arc};

use super::{
    batch::PacketBatch,
    context::{MOST_STAGED_IN_ALL, TunnelContext, jitter},
    drops::DropReason,
    ip,
    peer::{MOST_STAGED, Peer},
    peer_id::PeerId,
    session::Session,
    time::{CurrentTime, SteadyTime},
    tunnel::Tunnel,
};
use crate::datagram::DATA_OVERHEAD;

/// What is about to be sent to one peer: the packets of one frame.
#[derive(Debug, Clone, Copy)]
pub struct SendBurst {
    /// Packets.
    pub packets: usize,
    /// Length of all of them but the last, in bytes.
    pub len: usize,
    /// Length of the last.
    pub last: usize,
}

/// A session that packets may be sent on, and where to. It needs no tunnel, so that encryption runs without the
/// tunnel's lock.
#[derive(Clone)]
pub struct SendSession {
    session: Arc<Session>,
    peer: PeerId,
    endpoint: SocketAddr,
    mtu: usize,
    ageing: bool,
}

impl SendBurst {
    /// One packet.
    pub fn one(len: usize) -> Self {
        Self { packets: 1, len, last: len }
    }

    /// Bytes on the wire, without UDP and IP.
    fn sealed(&self, mtu: usize) -> u64 {
        (self.packets as u64 - 1) * sealed_len(self.len, mtu) + sealed_len(self.last, mtu)
    }
}

impl SendSession {
    /// Encrypts the first `len` bytes of `slot`, whose other 15 or more are scratch for padding
    /// ([`PacketBatch::padded_mut`]), into `out`, which has room for it.
    pub fn seal(&self, slot: &mut [u8], len: usize, out: &mut PacketBatch) -> Result<(), DropReason> {
        let padded = pad(slot, len, self.mtu);
        let sealed = self.session.seal(padded, out.next_slot()).ok_or(DropReason::Expired)?;
        out.push(sealed, Some(self.endpoint));
        Ok(())
    }

    /// Whether [`Tunnel::renew`] is to be called once everything is sealed: the peer may hold this session only until it
    /// hears of a newer one.
    pub fn is_ageing(&self) -> bool {
        self.ageing
    }
}

impl Tunnel {
    /// Takes a packet from the TUN device: the first `len` bytes of `slot`, whose other 15 or more are
    /// scratch for padding ([`PacketBatch::padded_mut`]). Puts at most two datagrams into `out`.
    pub fn packet(&mut self, now: CurrentTime, slot: &mut [u8], len: usize, out: &mut PacketBatch) {
        if let Err(reason) = self.send(now, slot, len, out) {
            self.context.drops.count(reason);
        }
    }

    fn send(&mut self, now: CurrentTime, slot: &mut [u8], len: usize, out: &mut PacketBatch) -> Result<(), DropReason> {
        let Some(send_session) = self.send_session(now, &slot[..len], SendBurst::one(len))? else {
            return self.stage(now, slot, len, out);
        };
        send_session.seal(slot, len, out)?;
        if send_session.is_ageing() {
            self.renew(now, &send_session, out);
        }
        Ok(())
    }

    /// The session for packets to where `packet`, the first of them, goes to. They count as sent. `None` when there is no
    /// session yet, or others wait for one: give each packet to [`Tunnel::packet`] then.
    pub fn send_session(
        &mut self,
        now: CurrentTime,
        packet: &[u8],
        burst: SendBurst,
    ) -> Result<Option<SendSession>, DropReason> {
        let (peer, endpoint) = self.route(packet)?;
        let Some(found) = self.peers.get_mut(peer) else { return Ok(None) };
        // While packets wait for a session, later ones queue behind them; otherwise they would overtake.
        let Some((session, ageing)) = found.open_session(now.steady) else { return Ok(None) };
        let mtu = self.context.mtu;
        // Counted before the encryption, which runs without the lock of the tunnel. A failure there is counted as a drop.
        found.sent(now.steady, MessageContent::Data, burst.sealed(mtu));
        self.context.watch(peer, &mut found.timers);
        Ok(Some(SendSession { session, peer, endpoint, mtu, ageing }))
    }

    /// Begins a handshake, by one datagram in `out`, with the peer of a session that is ageing.
    pub fn renew(&mut self, now: CurrentTime, send_session: &SendSession, out: &mut PacketBatch) {
        if let Some(peer) = self.peers.get_mut(send_session.peer) {
            peer.timers.handshake_wanted();
            peer.initiate(&mut self.context, send_session.peer, now.steady, out);
            self.context.watch(send_session.peer, &mut peer.timers);
        }
    }

    fn route(&mut self, packet: &[u8]) -> Result<(PeerId, SocketAddr), DropReason> {
        let destination = ip::destination(packet).ok_or(DropReason::Malformed)?;
        let id = self.allowed_ips.holder(destination).ok_or(DropReason::NoRoute)?;
        let peer = self.peers.get_mut(id).ok_or(DropReason::NoRoute)?;
        Ok((id, peer.endpoint.ok_or(DropReason::NoEndpoint)?))
    }

    /// Keeps a packet for a session and asks for one.
    fn stage(
        &mut self,
        now: CurrentTime,
        slot: &mut [u8],
        len: usize,
        out: &mut PacketBatch,
    ) -> Result<(), DropReason> {
        let (id, _) = self.route(&slot[..len])?;
        let Some(peer) = self.peers.get_mut(id) else { return Err(DropReason::NoRoute) };
        let packet = pad(slot, len, self.context.mtu);
        // Padded before it is kept, as the memory behind the packet belongs to the caller.
        let staged = peer.stage(&mut self.context, packet);
        if staged.is_ok() {
            peer.timers.handshake_wanted();
            peer.initiate(&mut self.context, id, now.steady, out);
        }
        self.context.watch(id, &mut peer.timers);
        staged
    }
}

/// Whether a message says anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MessageContent {
    Data,
    Keepalive,
}

/// Length of the message that holds a packet of `len` bytes.
fn sealed_len(len: usize, mtu: usize) -> u64 {
    (ip::padded(len, mtu) + DATA_OVERHEAD) as u64
}

fn pad(slot: &mut [u8], len: usize, mtu: usize) -> &[u8] {
    let padded = ip::padded(len, mtu);
    // The scratch holds bytes of other packets, which must not go to this peer.
    slot[len..padded].fill(0);
    &slot[..padded]
}

impl Peer {
    /// The session to send on, if it may be used and nothing waits for its turn, and whether it should be renewed.
    fn open_session(&self, now: SteadyTime) -> Option<(Arc<Session>, bool)> {
        let sessions = self.sessions.as_ref().filter(|sessions| sessions.staged.is_empty())?;
        let current = sessions.current.as_ref().filter(|current| current.is_usable(now))?;
        Some((current.session.clone(), current.wants_rekey_on_send(now)))
    }

    /// Messages of so many bytes in all go out.
    fn sent(&mut self, now: SteadyTime, content: MessageContent, bytes: u64) {
        self.tx_bytes += bytes;
        if content == MessageContent::Data {
            self.timers.data_sent(now, jitter);
        }
        self.timers.anything_sent(now, self.keepalive);
    }

    /// Encrypts onto the current session; `false` when there is none that may be used.
    pub(crate) fn seal(
        &mut self,
        context: &mut TunnelContext,
        id: PeerId,
        now: SteadyTime,
        packet: &[u8],
        endpoint: SocketAddr,
        out: &mut PacketBatch,
    ) -> bool {
        let Some(current) = self.sessions.as_ref().and_then(|sessions| sessions.current.as_ref()) else { return false };
        if !current.is_usable(now) {
            return false;
        }
        let Some(len) = current.session.seal(packet, out.next_slot()) else { return false };
        let ageing = current.wants_rekey_on_send(now);
        out.push(len, Some(endpoint));
        self.sent(now, if packet.is_empty() { MessageContent::Keepalive } else { MessageContent::Data }, len as u64);
        if ageing {
            self.timers.handshake_wanted();
            self.initiate(context, id, now, out);
        }
        true
    }

    /// Keeps a padded packet until there is a session. The oldest one makes room, as it is the least use by now.
    fn stage(&mut self, context: &mut TunnelContext, packet: &[u8]) -> Result<(), DropReason> {
        if context.leave_to_successor(packet) {
            return Ok(());
        }
        let staged = &mut self.sessions().staged;
        let mut result = Ok(());
        if staged.len() >= MOST_STAGED {
            // The oldest packet has waited longest and is the least use to its sender by now.
            staged.pop_front();
            context.staged -= 1;
            result = Err(DropReason::QueueFull);
        }
        if context.staged >= MOST_STAGED_IN_ALL {
            return Err(DropReason::QueueFull);
        }
        staged.push_back(packet.to_vec());
        context.staged += 1;
        if let Err(reason) = result {
            context.drops.count(reason);
        }
        Ok(())
    }

    /// Sends what waited for a session.
    pub(crate) fn flush(&mut self, context: &mut TunnelContext, id: PeerId, now: SteadyTime, out: &mut PacketBatch) {
        let Some(endpoint) = self.endpoint else { return };
        // Room for two: sealing may ask for a new handshake, which is a datagram of its own.
        while out.room() > 1 {
            let Some(packet) = self.sessions.as_mut().and_then(|sessions| sessions.staged.pop_front()) else { return };
            context.staged -= 1;
            if !self.seal(context, id, now, &packet, endpoint, out) {
                context.drops.count(DropReason::Expired);
            }
        }
    }

    /// Sends a keepalive, or what waits in its place, or an initiation where there is no session.
    pub(crate) fn send_keepalive(
        &mut self,
        context: &mut TunnelContext,
        id: PeerId,
        now: SteadyTime,
        out: &mut PacketBatch,
    ) {
        let Some(endpoint) = self.endpoint else { return };
        if !self.seal(context, id, now, &[], endpoint, out) {
            self.timers.handshake_wanted();
            self.initiate(context, id, now, out);
        }
    }
}
