use std::{
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use overlayd_core::keys::PrivateKey;

use super::hex;
use crate::noise::{PeerSnapshot, TunnelSnapshot};

/// Writes the answer to `get=1`, up to and without `errno`.
pub(crate) fn show(private_key: &PrivateKey, listen_port: u16, mark: u32, device: &TunnelSnapshot) -> String {
    // Reckoned for all peers: a text that grows leaves copies with keys in memory that is not wiped.
    let mut out = String::with_capacity(256 + device.peers.len() * 400);
    key_line(&mut out, "private_key", private_key.as_bytes());
    line(&mut out, "listen_port", listen_port);
    if mark != 0 {
        line(&mut out, "fwmark", mark);
    }
    for peer in &device.peers {
        show_peer(&mut out, peer);
    }
    out
}

fn show_peer(out: &mut String, peer: &PeerSnapshot) {
    key_line(out, "public_key", peer.key.as_bytes());
    key_line(out, "preshared_key", peer.psk.as_ref().map_or(&[0; 32], |psk| psk.as_bytes()));
    line(out, "protocol_version", 1);
    if let Some(endpoint) = peer.endpoint {
        line(out, "endpoint", endpoint);
    }
    let handshake = peer.last_handshake.map_or(Duration::ZERO, since_epoch);
    line(out, "last_handshake_time_sec", handshake.as_secs());
    line(out, "last_handshake_time_nsec", handshake.subsec_nanos());
    line(out, "tx_bytes", peer.tx_bytes);
    line(out, "rx_bytes", peer.rx_bytes);
    line(out, "persistent_keepalive_interval", peer.keepalive.map_or(0, std::num::NonZeroU16::get));
    for range in &peer.allowed_ips {
        line(out, "allowed_ip", range);
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

fn key_line(out: &mut String, name: &str, key: &[u8; 32]) {
    out.push_str(name);
    out.push('=');
    hex::write(out, key);
    out.push('\n');
}

fn line(out: &mut String, name: &str, value: impl std::fmt::Display) {
    writeln!(out, "{name}={value}").expect("writing to a string cannot fail");
}
