use std::{net::SocketAddr, num::NonZeroU16};

use ipnet::IpNet;
use overlayd_core::keys::{PresharedKey, PrivateKey, PublicKey};

use super::{peer::Peer, peer_id::PeerId, time::SteadyTime, tunnel::Tunnel};

/// What to do with a peer's endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointUpdate {
    /// Leaves what is known.
    Keep,
    /// Sends there until the peer roams.
    Set(SocketAddr),
}

/// A peer as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Who.
    pub key: PublicKey,
    /// Additional symmetric key.
    pub psk: Option<PresharedKey>,
    /// Where.
    pub endpoint: EndpointUpdate,
    /// Seconds between persistent keepalives.
    pub keepalive: Option<NonZeroU16>,
    /// All ranges of the peer.
    pub allowed_ips: Vec<IpNet>,
}

/// One change to a peer that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEdit {
    /// Sets or (with `None`) clears the pre-shared key.
    Psk(Option<PresharedKey>),
    /// Sends there until the peer roams.
    EndpointUpdate(SocketAddr),
    /// Sets or clears the persistent keepalive.
    Keepalive(Option<NonZeroU16>),
    /// Takes all ranges from the peer.
    ClearAllowedIps,
    /// Gives the range to the peer, also where another one holds it.
    AddAllowedIp(IpNet),
    /// Takes the range from the peer, if it holds it.
    RemoveAllowedIp(IpNet),
}

impl Tunnel {
    /// Makes the peer be as given, whether known or new. Sessions go on; a new pre-shared key counts from the next
    /// handshake. Costs what changes.
    pub fn set_peer(&mut self, now: SteadyTime, config: &PeerConfig) {
        let id = self.add_peer(&config.key);
        if let EndpointUpdate::Set(endpoint) = config.endpoint {
            self.edit(now, id, &PeerEdit::EndpointUpdate(endpoint));
        }
        self.edit(now, id, &PeerEdit::Psk(config.psk.clone()));
        self.edit(now, id, &PeerEdit::Keepalive(config.keepalive));
        let wanted: std::collections::BTreeSet<IpNet> = config.allowed_ips.iter().map(IpNet::trunc).collect();
        let Some(peer) = self.peers.get_mut(id) else { return };
        let surplus: Vec<IpNet> = peer.allowed_ips.difference(&wanted).copied().collect();
        let missing: Vec<IpNet> = wanted.difference(&peer.allowed_ips).copied().collect();
        // Added before the surplus goes, so that a range that only changes its prefix length is never without a holder.
        for range in missing {
            self.edit(now, id, &PeerEdit::AddAllowedIp(range));
        }
        for range in surplus {
            self.edit(now, id, &PeerEdit::RemoveAllowedIp(range));
        }
    }

    /// Adds a peer without any setting, unless it is there.
    pub fn ensure_peer(&mut self, key: &PublicKey) {
        self.add_peer(key);
    }

    /// Whether there is such a peer.
    pub fn has_peer(&self, key: &PublicKey) -> bool {
        self.peers.find(key).is_some()
    }

    /// Begins a handshake with a peer whose endpoint is known, so that a peer that still holds a session with a process
    /// before us need not find out by itself that it is gone.
    pub fn start_handshake(&mut self, now: SteadyTime, key: &PublicKey) {
        let Some(id) = self.peers.find(key) else { return };
        let Some(peer) = self.peers.get_mut(id) else { return };
        if peer.endpoint.is_some() {
            // Without an endpoint there is nowhere to send it; the first packet of the peer brings one.
            peer.timers.request_handshake(now);
            self.context.watch(id, &mut peer.timers);
        }
    }

    /// Changes one thing of a peer; one that is not there is left alone.
    pub fn edit_peer(&mut self, now: SteadyTime, key: &PublicKey, edit: &PeerEdit) {
        if let Some(id) = self.peers.find(key) {
            self.edit(now, id, edit);
        }
    }

    /// Removes a peer with its sessions and ranges, if it is there.
    pub fn remove_peer(&mut self, key: &PublicKey) {
        let Some(mut peer) = self.peers.remove(key) else { return };
        for range in &peer.allowed_ips {
            self.allowed_ips.remove(*range);
        }
        peer.drop_sessions(&mut self.context);
    }

    /// Removes all peers.
    pub fn clear_peers(&mut self) {
        for key in self.peers.keys() {
            self.remove_peer(&key);
        }
    }

    /// Takes another private key. All sessions end, and a peer of that very key is removed.
    pub fn set_private_key(&mut self, private: [u8; 32]) {
        for (_, peer) in self.peers.iter_mut() {
            peer.drop_sessions(&mut self.context);
            // A timer of an old session would begin handshakes under the new key for peers that nothing is to be sent to.
            peer.timers.stop();
        }
        self.context.set_identity(private);
        // A device is no peer of itself: packets to it would circle.
        self.remove_peer(&self.public_key());
    }

    /// The device's private key.
    pub fn private_key(&self) -> PrivateKey {
        PrivateKey::from_bytes(self.context.identity.private.to_bytes())
    }

    /// The device's public key.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from_bytes(*self.context.identity.public.as_bytes())
    }

    /// Pads to another MTU from now on.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.context.mtu = mtu.into();
    }

    fn add_peer(&mut self, key: &PublicKey) -> PeerId {
        self.peers.find(key).unwrap_or_else(|| self.peers.insert(Peer::new(*key)))
    }

    fn edit(&mut self, now: SteadyTime, id: PeerId, edit: &PeerEdit) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        match edit {
            PeerEdit::Psk(psk) => peer.psk.clone_from(psk),
            PeerEdit::EndpointUpdate(endpoint) => set_endpoint(peer, now, canonical(*endpoint)),
            PeerEdit::Keepalive(keepalive) => set_keepalive(peer, now, *keepalive),
            PeerEdit::ClearAllowedIps => {
                for range in std::mem::take(&mut peer.allowed_ips) {
                    self.allowed_ips.remove(range);
                }
            }
            PeerEdit::AddAllowedIp(range) => return self.give(range.trunc(), id),
            PeerEdit::RemoveAllowedIp(range) => {
                if peer.allowed_ips.remove(&range.trunc()) {
                    self.allowed_ips.remove(*range);
                }
            }
        }
        self.context.watch(id, &mut peer.timers);
    }

    fn give(&mut self, range: IpNet, id: PeerId) {
        if let Some(before) = self.allowed_ips.insert(range, id).filter(|before| *before != id)
            && let Some(peer) = self.peers.get_mut(before)
        {
            // An AllowedIP has one holder (whitepaper, section 2), so the earlier one loses it.
            peer.allowed_ips.remove(&range);
        }
        if let Some(peer) = self.peers.get_mut(id) {
            peer.allowed_ips.insert(range);
        }
    }
}

fn set_endpoint(peer: &mut Peer, now: SteadyTime, endpoint: SocketAddr) {
    if peer.endpoint != Some(endpoint) {
        peer.endpoint = Some(endpoint);
        // What was sent to the old place may never be answered, so the next initiation need not wait for it.
        peer.timers.endpoint_changed(now);
        if peer.keepalive.is_some() {
            peer.timers.persistent_changed(now, peer.keepalive);
        }
    }
}

fn set_keepalive(peer: &mut Peer, now: SteadyTime, keepalive: Option<NonZeroU16>) {
    if peer.keepalive != keepalive {
        peer.keepalive = keepalive;
        peer.timers.persistent_changed(now, keepalive);
    }
}

/// An IPv4 address in IPv6 dress is the IPv4 address: there is a socket for each family.
fn canonical(endpoint: SocketAddr) -> SocketAddr {
    match endpoint {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => endpoint,
        },
        SocketAddr::V4(_) => endpoint,
    }
}
