use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use super::{
    context::Env,
    message::Message,
    peer_config::{Endpoint, PeerConfig},
    time::Moment,
    tunnel::Engine,
};

/// What an engine that stands aside leaves to the one that follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stray {
    /// Came from outside, and is for no session of ours.
    Datagram(SocketAddr, Vec<u8>),
    /// Came from inside, and there is no session to send it on.
    Packet(Vec<u8>),
}

/// The state of an engine that stands aside.
#[derive(Debug)]
pub(crate) struct Aside {
    strays: Vec<Stray>,
    /// When something last came on a session of ours.
    heard: Moment,
}

/// What is known of a peer beyond its settings, and goes to the engine that follows. No `Debug`: it holds a key.
pub struct Known {
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
    pub talks: bool,
}

impl Engine {
    /// Peers answer no two initiations of one key at once, whichever process sends them (the kernel's WireGuard: 20 ms).
    pub const BETWEEN_HANDSHAKES: Duration = Duration::from_millis(25);

    /// From now on this engine carries what its sessions can carry and begins no handshake; everything else is a
    /// [`Stray`]. Returns the peers as they are.
    pub fn stand_aside(&mut self, now: Moment) -> Vec<Known> {
        let mut strays = Vec::new();
        let mut known = Vec::new();
        for (_, peer) in self.peers.iter_mut() {
            let mut talks = false;
            if let Some(talk) = &mut peer.talk {
                talks = talk.current.is_some() || talk.next.is_some() || talk.pending.is_some();
                if let Some(pending) = talk.pending.take() {
                    self.env.indices.release(pending.index);
                }
                self.env.staged -= talk.staged.len();
                strays.extend(talk.staged.drain(..).map(Stray::Packet));
            }
            let config = PeerConfig {
                key: peer.key,
                psk: peer.psk.clone(),
                endpoint: peer.endpoint.map_or(Endpoint::Keep, Endpoint::Set),
                keepalive: peer.keepalive,
                allowed_ips: peer.allowed_ips.iter().copied().collect(),
            };
            known.push(Known {
                config,
                rx_bytes: peer.rx_bytes,
                tx_bytes: peer.tx_bytes,
                last_handshake: peer.last_handshake,
                last_timestamp: peer.last_timestamp,
                talks,
            });
        }
        self.env.aside = Some(Aside { strays, heard: now });
        known
    }

    /// The engine that was to follow is gone: everything is this one's again. Peers may by now hold a session with the
    /// other one, so each that has one is met by a handshake at once.
    pub fn come_back(&mut self, now: Moment) {
        let now = now.after(Self::BETWEEN_HANDSHAKES);
        if self.env.aside.take().is_none() {
            return;
        }
        for (id, peer) in self.peers.iter_mut() {
            if peer.talk.is_some() && peer.endpoint.is_some() {
                peer.timers.begin_anew(now);
                self.env.watch(id, peer);
            }
        }
    }

    /// Takes what has been left aside since the last time.
    pub fn take_strays(&mut self) -> Vec<Stray> {
        self.env.aside.as_mut().map_or_else(Vec::new, |aside| std::mem::take(&mut aside.strays))
    }

    /// When something last came on a session of an engine that stands aside.
    pub fn last_heard(&self) -> Option<Moment> {
        self.env.aside.as_ref().map(|aside| aside.heard)
    }

    /// Makes a peer be as another engine has known it. Nothing is sent yet; [`Engine::greet_peer`] begins.
    pub fn take_on(&mut self, now: Moment, known: &Known) {
        self.set_peer(now, &known.config);
        let Some(peer) = self.peers.find(&known.config.key).and_then(|id| self.peers.get_mut(id)) else { return };
        peer.rx_bytes = known.rx_bytes;
        peer.tx_bytes = known.tx_bytes;
        peer.last_handshake = known.last_handshake;
        peer.last_timestamp = known.last_timestamp;
    }

    /// Whether packets for the peer can be sent at once. A peer that is not there needs none.
    pub fn is_connected(&mut self, now: Moment, key: &overlayd_core::keys::PublicKey) -> bool {
        let Some(peer) = self.peers.find(key).and_then(|id| self.peers.get_mut(id)) else { return true };
        let current = peer.talk.as_ref().and_then(|talk| talk.current.as_ref());
        current.is_some_and(|current| current.is_usable(now))
    }

    /// Leaves a datagram that is for no session of ours to the engine that follows, if there is one.
    pub(crate) fn is_left_aside(&mut self, from: SocketAddr, datagram: &[u8]) -> bool {
        let Some(aside) = &mut self.env.aside else { return false };
        let receiver = match Message::parse(datagram) {
            None => return false,
            Some(Message::Initiation { .. }) => None,
            Some(
                Message::Response { receiver, .. } | Message::CookieReply { receiver } | Message::Data { receiver, .. },
            ) => Some(receiver),
        };
        if receiver.is_some_and(|receiver| self.env.indices.owner(receiver).is_some()) {
            return false;
        }
        aside.strays.push(Stray::Datagram(from, datagram.to_vec()));
        true
    }
}

impl Env {
    /// Leaves a packet without a session to the engine that follows, if there is one.
    pub(crate) fn leave_aside(&mut self, packet: &[u8]) -> bool {
        let Some(aside) = &mut self.aside else { return false };
        aside.strays.push(Stray::Packet(packet.to_vec()));
        true
    }

    /// A session of ours was used by its peer.
    pub(crate) fn heard(&mut self, now: Moment) {
        if let Some(aside) = &mut self.aside {
            aside.heard = now;
        }
    }
}
