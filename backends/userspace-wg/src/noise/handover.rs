use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use super::{
    context::TunnelContext,
    peer_config::{EndpointUpdate, PeerConfig},
    successor::{HandoverState, SuccessorTraffic},
    time::SteadyTime,
    tunnel::Tunnel,
};
use crate::datagram::{MessageHeader, WireGuardMessage};

/// A peer as it goes to the process that takes the device over. No `Debug`: it holds a key.
pub struct ExportedPeer {
    /// Its settings; the endpoint is where it was last heard.
    pub config: PeerConfig,
    /// Bytes received, as on the wire.
    pub rx_bytes: u64,
    /// Bytes sent, as on the wire.
    pub tx_bytes: u64,
    /// Wall-clock time of the last completed handshake.
    pub last_handshake: Option<SystemTime>,
    /// Time stamp of the last initiation that was answered, so that a captured one stays useless.
    pub last_timestamp: [u8; 12],
    /// Whether there is a session, or packets wait for one.
    pub has_session: bool,
}

impl Tunnel {
    /// Least time between initiations of two processes with one key: a peer answers the second one only then (the kernel's
    /// WireGuard: 20 ms).
    pub const HANDSHAKE_SPACING: Duration = Duration::from_millis(25);

    /// From now on this tunnel carries what its sessions can carry and begins no handshake; everything else is
    /// [`SuccessorTraffic`]. Returns the peers as they are.
    pub fn begin_handover(&mut self, now: SteadyTime) -> Vec<ExportedPeer> {
        let mut traffic = Vec::new();
        let mut exported = Vec::new();
        for (_, peer) in self.peers.iter_mut() {
            let mut has_session = false;
            if let Some(sessions) = &mut peer.sessions {
                has_session = sessions.current.is_some() || sessions.next.is_some() || sessions.pending.is_some();
                if let Some(pending) = sessions.pending.take() {
                    self.context.indices.release(pending.index);
                }
                // The successor sends these packets, in this order, before any that come later.
                self.context.staged -= sessions.staged.len();
                traffic.extend(sessions.staged.drain(..).map(SuccessorTraffic::Packet));
            }
            let config = PeerConfig {
                key: peer.key,
                psk: peer.psk.clone(),
                endpoint: peer.endpoint.map_or(EndpointUpdate::Keep, EndpointUpdate::Set),
                keepalive: peer.keepalive,
                allowed_ips: peer.allowed_ips.iter().copied().collect(),
            };
            exported.push(ExportedPeer {
                config,
                rx_bytes: peer.rx_bytes,
                tx_bytes: peer.tx_bytes,
                last_handshake: peer.last_handshake,
                last_timestamp: peer.last_timestamp,
                has_session,
            });
        }
        self.context.handover = Some(HandoverState { traffic, last_received: now });
        exported
    }

    /// The successor is gone: this tunnel carries everything again. Peers may by now hold a session with the successor,
    /// so a handshake begins at once with each that has one.
    pub fn cancel_handover(&mut self, now: SteadyTime) {
        // The successor may have begun a handshake a moment ago, and the peer would ignore this one.
        let now = now.after(Self::HANDSHAKE_SPACING);
        if self.context.handover.take().is_none() {
            return;
        }
        for (id, peer) in self.peers.iter_mut() {
            if peer.sessions.is_some() && peer.endpoint.is_some() {
                peer.timers.begin_anew(now);
                self.context.watch(id, &mut peer.timers);
            }
        }
    }

    /// Takes what has been left to the successor since the last call.
    pub fn take_successor_traffic(&mut self) -> Vec<SuccessorTraffic> {
        self.context.handover.as_mut().map_or_else(Vec::new, |handover| std::mem::take(&mut handover.traffic))
    }

    /// When a message last came on a session of a tunnel in a handover.
    pub fn last_received(&self) -> Option<SteadyTime> {
        self.context.handover.as_ref().map(|handover| handover.last_received)
    }

    /// Makes a peer be as the older process had it. Nothing is sent yet; [`Tunnel::start_handshake`] begins.
    pub fn import_peer(&mut self, now: SteadyTime, exported: &ExportedPeer) {
        self.set_peer(now, &exported.config);
        let Some(peer) = self.peers.find(&exported.config.key).and_then(|id| self.peers.get_mut(id)) else { return };
        peer.rx_bytes = exported.rx_bytes;
        peer.tx_bytes = exported.tx_bytes;
        peer.last_handshake = exported.last_handshake;
        // Without it an initiation captured before would be answered once more by this process.
        peer.last_timestamp = exported.last_timestamp;
    }

    /// Whether packets for the peer can be sent at once. A peer that is not there needs none.
    pub fn is_connected(&mut self, now: SteadyTime, key: &overlayd_core::keys::PublicKey) -> bool {
        let Some(peer) = self.peers.find(key).and_then(|id| self.peers.get_mut(id)) else { return true };
        let current = peer.sessions.as_ref().and_then(|sessions| sessions.current.as_ref());
        current.is_some_and(|current| current.is_usable(now))
    }

    /// Leaves a message that belongs to no session of this process to the successor, if there is one.
    pub(crate) fn is_for_successor(&mut self, from: SocketAddr, message: WireGuardMessage<'_>) -> bool {
        let Some(handover) = &mut self.context.handover else { return false };
        let receiver = match message.header {
            // Handshakes that peers begin are the successor's: their session is to outlive this process.
            MessageHeader::Initiation { .. } => None,
            MessageHeader::Response { receiver, .. }
            | MessageHeader::CookieReply { receiver }
            | MessageHeader::Data { receiver, .. } => Some(receiver),
        };
        if receiver.is_some_and(|receiver| self.context.indices.owner(receiver).is_some()) {
            return false;
        }
        handover.traffic.push(SuccessorTraffic::Datagram(from, message.bytes.to_vec()));
        true
    }
}

impl TunnelContext {
    /// Leaves a packet without a session to the successor, if there is one.
    pub(crate) fn leave_to_successor(&mut self, packet: &[u8]) -> bool {
        let Some(handover) = &mut self.handover else { return false };
        handover.traffic.push(SuccessorTraffic::Packet(packet.to_vec()));
        true
    }

    /// Notes that a peer has used a session of this process.
    pub(crate) fn note_received(&mut self, now: SteadyTime) {
        if let Some(handover) = &mut self.handover {
            handover.last_received = now;
        }
    }
}
