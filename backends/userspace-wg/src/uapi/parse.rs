use std::num::NonZeroU16;

use overlayd_core::keys::{PresharedKey, PrivateKey, PublicKey};

use super::hex;
use crate::noise::PeerEdit;

/// A `set=1` request: first the device, then its peers, each in the order given.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SetRequest {
    /// Changes of the device.
    pub device: Vec<DeviceEdit>,
    /// Changes of peers.
    pub peers: Vec<PeerSection>,
}

/// One change of a device.
#[derive(Debug, PartialEq, Eq)]
pub enum DeviceEdit {
    /// Takes another private key.
    PrivateKey(PrivateKey),
    /// Listens on another port; 0 lets the host choose.
    ListenPort(u16),
    /// Marks datagrams for policy routing; 0 is none.
    Mark(u32),
    /// Removes all peers first.
    ReplacePeers,
}

/// What happens to the peer of a section.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PeerMode {
    /// It is changed, and made first if need be.
    #[default]
    Set,
    /// It is changed if it is there.
    Update,
    /// It is removed.
    Remove,
}

/// The changes of one peer.
#[derive(Debug, PartialEq, Eq)]
pub struct PeerSection {
    /// Who.
    pub key: PublicKey,
    /// What happens to it.
    pub mode: PeerMode,
    /// Changes in order.
    pub edits: Vec<PeerEdit>,
}

/// A line that is not of the interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the request is not understood")]
pub struct MalformedRequest {
    /// Number of the line, counted from 1.
    pub line: usize,
}

impl SetRequest {
    /// Reads the lines after `set=1`, up to and without the empty one.
    pub fn parse(text: &str) -> Result<Self, MalformedRequest> {
        let mut request = Self::default();
        for (number, line) in text.lines().enumerate() {
            let malformed = MalformedRequest { line: number + 1 };
            let (key, value) = line.split_once('=').ok_or(malformed.clone())?;
            request.take(key, value).ok_or(malformed)?;
        }
        Ok(request)
    }

    fn take(&mut self, key: &str, value: &str) -> Option<()> {
        if key == "public_key" {
            let key = PublicKey::from_bytes(hex::read(value)?);
            self.peers.push(PeerSection { key, mode: PeerMode::Set, edits: Vec::new() });
            return Some(());
        }
        match self.peers.last_mut() {
            Some(peer) => peer.take(key, value),
            None => {
                self.device.push(device_edit(key, value)?);
                Some(())
            }
        }
    }
}

fn device_edit(key: &str, value: &str) -> Option<DeviceEdit> {
    Some(match key {
        "private_key" => {
            let key = hex::read(value)?;
            // A device without a key can talk to no peer; the backend has none such.
            if key == [0; 32] {
                return None;
            }
            DeviceEdit::PrivateKey(PrivateKey::from_bytes(key))
        }
        "listen_port" => DeviceEdit::ListenPort(value.parse().ok()?),
        "fwmark" => DeviceEdit::Mark(value.parse().ok()?),
        "replace_peers" => {
            is_true(value)?;
            DeviceEdit::ReplacePeers
        }
        _ => return None,
    })
}

impl PeerSection {
    fn take(&mut self, key: &str, value: &str) -> Option<()> {
        let edit = match key {
            "remove" => return is_true(value).map(|()| self.mode = PeerMode::Remove),
            "update_only" => return is_true(value).map(|()| self.set_update_only()),
            // Version 1 is the only one there is; another one would mean other keys than these.
            "protocol_version" => return (value == "1").then_some(()),
            "preshared_key" => PeerEdit::Psk(preshared(hex::read(value)?)),
            "endpoint" => PeerEdit::EndpointUpdate(value.parse().ok()?),
            "persistent_keepalive_interval" => PeerEdit::Keepalive(NonZeroU16::new(value.parse().ok()?)),
            "replace_allowed_ips" => is_true(value).map(|()| PeerEdit::ClearAllowedIps)?,
            "allowed_ip" => allowed_ip(value)?,
            _ => return None,
        };
        self.edits.push(edit);
        Some(())
    }

    fn set_update_only(&mut self) {
        if self.mode == PeerMode::Set {
            self.mode = PeerMode::Update;
        }
    }
}

fn preshared(key: [u8; 32]) -> Option<PresharedKey> {
    // Zeros stand for no pre-shared key in the interface.
    (key != [0; 32]).then(|| PresharedKey::from_bytes(key))
}

fn allowed_ip(value: &str) -> Option<PeerEdit> {
    match value.strip_prefix('-') {
        Some(range) => Some(PeerEdit::RemoveAllowedIp(range.parse().ok()?)),
        None => Some(PeerEdit::AddAllowedIp(value.strip_prefix('+').unwrap_or(value).parse().ok()?)),
    }
}

fn is_true(value: &str) -> Option<()> {
    (value == "true").then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33";

    #[test]
    fn a_request_is_read_line_by_line() {
        let text = format!(
            "listen_port=12912\nfwmark=7\nreplace_peers=true\npublic_key={KEY}\nupdate_only=true\n\
             endpoint=[abcd:23::33%2]:51820\n"
        );
        let text = text + "allowed_ip=192.168.4.4/32\nallowed_ip=-10.0.0.0/8\nallowed_ip=::/0\n";
        let request = SetRequest::parse(&text).unwrap();
        assert_eq!(request.device, [DeviceEdit::ListenPort(12912), DeviceEdit::Mark(7), DeviceEdit::ReplacePeers]);
        let peer = &request.peers[0];
        assert_eq!((peer.mode, peer.edits.len()), (PeerMode::Update, 4));
        assert_eq!(peer.edits[2], PeerEdit::RemoveAllowedIp("10.0.0.0/8".parse().unwrap()));
    }

    #[test]
    fn what_is_not_of_the_interface_is_refused_with_its_line() {
        let bad = ["nonsense", "private_key=00", "listen_port=70000", "remove=false", "allowed_ip=1.2.3.4", "x=y"];
        for line in bad {
            let text = format!("fwmark=1\n{line}\n");
            assert_eq!(SetRequest::parse(&text), Err(MalformedRequest { line: 2 }), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(([a-z_]{0,12}|public_key|allowed_ip|endpoint)=[-+0-9a-f:./\\[\\]]{0,70}\n|\\PC{0,20}){0,12}") {
            let _ = SetRequest::parse(&text);
        }
    }
}
