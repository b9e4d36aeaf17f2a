use super::{allowed_ips::AllowedIps, context::TunnelContext, load::HandshakeLimits, peer_table::PeerTable};

/// One WireGuard device: its key, its peers and their sessions, without any socket.
///
/// Callers bring messages ([`Tunnel::message`]), packets ([`Tunnel::packet`]) and the time ([`Tunnel::wake`]), and
/// carry away what is put into the batches they hand in. No call looks at more than one peer.
pub struct Tunnel {
    pub(crate) context: TunnelContext,
    pub(crate) peers: PeerTable,
    pub(crate) allowed_ips: AllowedIps,
}

impl Tunnel {
    /// A device with this private key and no peers.
    pub fn new(private: [u8; 32], mtu: u16, limits: HandshakeLimits) -> Self {
        Self {
            // Three parts, so that a peer can be borrowed while what all peers share is changed.
            context: TunnelContext::new(private, mtu, limits),
            peers: PeerTable::default(),
            allowed_ips: AllowedIps::default(),
        }
    }
}
