use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU16, time::SystemTime};

use ipnet::IpNet;
use overlayd_core::{
    contract::PeerStatus,
    keys::{PresharedKey, PublicKey},
};

use super::{
    peer::Peer,
    peer_config::{EndpointUpdate, PeerConfig},
    tunnel::Tunnel,
};

/// A device as it is at one moment. No `Debug`: it holds keys.
pub struct TunnelSnapshot {
    /// The device's own key.
    pub public_key: PublicKey,
    /// All peers.
    pub peers: Vec<PeerSnapshot>,
    /// Dropped packets by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// A peer as it is at one moment.
pub struct PeerSnapshot {
    /// Who.
    pub key: PublicKey,
    /// Additional symmetric key.
    pub psk: Option<PresharedKey>,
    /// Where, once known.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between persistent keepalives.
    pub keepalive: Option<NonZeroU16>,
    /// Ranges.
    pub allowed_ips: Vec<IpNet>,
    /// Wall-clock time of the last completed handshake.
    pub last_handshake: Option<SystemTime>,
    /// Bytes received, as on the wire.
    pub rx_bytes: u64,
    /// Bytes sent, as on the wire.
    pub tx_bytes: u64,
}

impl From<PeerSnapshot> for PeerConfig {
    fn from(peer: PeerSnapshot) -> Self {
        Self {
            key: peer.key,
            psk: peer.psk,
            endpoint: peer.endpoint.map_or(EndpointUpdate::Keep, EndpointUpdate::Set),
            keepalive: peer.keepalive,
            allowed_ips: peer.allowed_ips,
        }
    }
}

impl Tunnel {
    /// The version of the peers, which is another one whenever something about them may have changed; 0 is that of a
    /// device that never had any.
    pub fn peers_version(&self) -> u64 {
        self.peers.version()
    }

    /// All peers, in no particular order.
    pub fn peer_statuses(&self) -> Vec<PeerStatus> {
        self.peers.iter().map(status).collect()
    }

    /// Dropped packets by reason.
    pub fn dropped(&self) -> BTreeMap<&'static str, u64> {
        self.context.drops.by_reason()
    }

    /// Copies what can be told about the device.
    pub fn snapshot(&self) -> TunnelSnapshot {
        let peers = self.peers.iter().map(|peer| PeerSnapshot {
            key: peer.key,
            psk: peer.psk.clone(),
            endpoint: peer.endpoint,
            keepalive: peer.keepalive,
            allowed_ips: peer.allowed_ips.iter().copied().collect(),
            last_handshake: peer.last_handshake,
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
        });
        TunnelSnapshot { public_key: self.public_key(), peers: peers.collect(), dropped: self.dropped() }
    }

    /// Counts packets that were lost outside, between the tunnel and the host.
    pub fn count_drops(&mut self, reason: super::DropReason, packets: u64) {
        self.context.drops.add(reason, packets);
    }
}

fn status(peer: &Peer) -> PeerStatus {
    PeerStatus {
        // Without the pre-shared key: a status goes to every client.
        public_key: peer.key,
        endpoint: peer.endpoint,
        allowed_ips: peer.allowed_ips.iter().copied().collect(),
        last_handshake: peer.last_handshake,
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
        keepalive: peer.keepalive,
    }
}
