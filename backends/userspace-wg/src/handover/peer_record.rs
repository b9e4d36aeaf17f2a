//! Peers as text between two processes.

use std::{io, net::SocketAddr, num::NonZeroU16, time::SystemTime};

use ipnet::IpNet;
use overlayd_core::keys::{PresharedKey, PublicKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::noise::{EndpointUpdate, ExportedPeer, PeerConfig};

/// A peer in transit. The names of its fields are read by other releases: they stay as they are.
#[derive(Serialize, Deserialize)]
struct PeerRecord {
    key: [u8; 32],
    psk: Option<[u8; 32]>,
    endpoint: Option<SocketAddr>,
    keepalive: Option<NonZeroU16>,
    allowed_ips: Vec<IpNet>,
    rx_bytes: u64,
    tx_bytes: u64,
    last_handshake: Option<SystemTime>,
    last_timestamp: [u8; 12],
    #[serde(rename = "talks")]
    has_session: bool,
}

impl From<&ExportedPeer> for PeerRecord {
    fn from(exported: &ExportedPeer) -> Self {
        let config = &exported.config;
        Self {
            key: *config.key.as_bytes(),
            psk: config.psk.as_ref().map(|psk| *psk.as_bytes()),
            endpoint: match config.endpoint {
                EndpointUpdate::Set(endpoint) => Some(endpoint),
                EndpointUpdate::Keep => None,
            },
            keepalive: config.keepalive,
            allowed_ips: config.allowed_ips.clone(),
            rx_bytes: exported.rx_bytes,
            tx_bytes: exported.tx_bytes,
            last_handshake: exported.last_handshake,
            last_timestamp: exported.last_timestamp,
            has_session: exported.has_session,
        }
    }
}

impl From<PeerRecord> for ExportedPeer {
    fn from(record: PeerRecord) -> Self {
        Self {
            config: PeerConfig {
                key: PublicKey::from_bytes(record.key),
                psk: record.psk.map(PresharedKey::from_bytes),
                endpoint: record.endpoint.map_or(EndpointUpdate::Keep, EndpointUpdate::Set),
                keepalive: record.keepalive,
                allowed_ips: record.allowed_ips.clone(),
            },
            rx_bytes: record.rx_bytes,
            tx_bytes: record.tx_bytes,
            last_handshake: record.last_handshake,
            last_timestamp: record.last_timestamp,
            has_session: record.has_session,
        }
    }
}

impl Drop for PeerRecord {
    fn drop(&mut self) {
        self.psk.zeroize();
    }
}

/// Writes some peers; the text is wiped when it goes.
pub(super) fn write(peers: &[ExportedPeer]) -> io::Result<Zeroizing<Vec<u8>>> {
    let records: Vec<PeerRecord> = peers.iter().map(PeerRecord::from).collect();
    Ok(Zeroizing::new(serde_json::to_vec(&records)?))
}

/// Reads the peers of one message.
pub(super) fn read(text: &[u8]) -> io::Result<Vec<ExportedPeer>> {
    let records: Vec<PeerRecord> = serde_json::from_slice(text)?;
    Ok(records.into_iter().map(ExportedPeer::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_arrive_as_they_are_known() {
        let sent = ExportedPeer {
            config: PeerConfig {
                key: PublicKey::from_bytes([3; 32]),
                psk: Some(PresharedKey::from_bytes([4; 32])),
                endpoint: EndpointUpdate::Set("192.0.2.1:1".parse().unwrap()),
                keepalive: NonZeroU16::new(25),
                allowed_ips: vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
            },
            rx_bytes: 1,
            tx_bytes: 2,
            last_handshake: Some(SystemTime::UNIX_EPOCH),
            last_timestamp: [5; 12],
            has_session: true,
        };
        let text = write(std::slice::from_ref(&sent)).unwrap();
        assert!(String::from_utf8_lossy(&text).contains("\"talks\":true"), "older releases read this name");
        let arrived = read(&text).unwrap().remove(0);
        assert!(arrived.config == sent.config && arrived.last_timestamp == sent.last_timestamp && arrived.has_session);
        assert_eq!((arrived.rx_bytes, arrived.tx_bytes, arrived.last_handshake), (1, 2, sent.last_handshake));
    }
}
