use std::{io, sync::Weak};

use overlayd_core::{
    contract::{DriftReason, DriftSignal, InterfaceChange},
    names::LinkName,
};

use super::{DeviceEdit, PeerMode, PeerSection, SetRequest, show};
use crate::{
    device::SharedDevice,
    io::{control::no_such_device, udp::UdpSockets},
    noise::{SteadyTime, Tunnel},
};

/// The device behind a control socket; it may end while clients are connected.
#[derive(Clone)]
pub(crate) struct ControlTarget {
    device: Weak<SharedDevice>,
    name: LinkName,
    drift: DriftSignal,
}

impl ControlTarget {
    /// `drift` hears of what clients change.
    pub(crate) fn new(device: Weak<SharedDevice>, name: LinkName, drift: DriftSignal) -> Self {
        Self { device, name, drift }
    }

    /// The answer to `get=1`.
    pub(super) fn get(&self) -> io::Result<String> {
        let device = self.device()?;
        let sockets = device.sockets();
        let (key, snapshot) = device.with_tunnel(|tunnel| (tunnel.private_key(), tunnel.snapshot()));
        Ok(show(&key, sockets.port(), sockets.mark(), &snapshot))
    }

    /// Does what a `set=1` request asks for: what the host may refuse first, and the rest at once.
    pub(super) fn set(&self, request: &SetRequest) -> io::Result<()> {
        let device = self.device()?;
        for edit in &request.device {
            match edit {
                // A port or a mark can be refused by the host; nothing of the tunnel has changed by then.
                DeviceEdit::ListenPort(port) => rebind(&device, *port)?,
                DeviceEdit::Mark(mark) => device.sockets().set_mark(*mark)?,
                DeviceEdit::PrivateKey(_) | DeviceEdit::ReplacePeers => {}
            }
        }
        let now = SteadyTime::boot_clock();
        device.with_tunnel(|tunnel| {
            request.device.iter().for_each(|edit| apply_device(tunnel, edit));
            request.peers.iter().for_each(|section| apply_peer(tunnel, now, section));
        });
        self.drift.changed(DriftReason::Interface { name: self.name.to_string(), change: InterfaceChange::Configured });
        Ok(())
    }

    fn device(&self) -> io::Result<std::sync::Arc<SharedDevice>> {
        self.device.upgrade().ok_or_else(no_such_device)
    }
}

fn rebind(device: &SharedDevice, port: u16) -> io::Result<()> {
    let present = device.sockets();
    if port != present.port() {
        device.replace_sockets(UdpSockets::bind(port, present.mark(), present.offloads())?);
    }
    Ok(())
}

fn apply_device(tunnel: &mut Tunnel, edit: &DeviceEdit) {
    match edit {
        DeviceEdit::PrivateKey(key) if tunnel.private_key() != *key => tunnel.set_private_key(*key.as_bytes()),
        DeviceEdit::ReplacePeers => tunnel.clear_peers(),
        DeviceEdit::PrivateKey(_) | DeviceEdit::ListenPort(_) | DeviceEdit::Mark(_) => {}
    }
}

fn apply_peer(tunnel: &mut Tunnel, now: SteadyTime, section: &PeerSection) {
    let PeerSection { key, mode, edits } = section;
    match mode {
        PeerMode::Remove => return tunnel.remove_peer(key),
        PeerMode::Update if !tunnel.has_peer(key) => return,
        // A device is no peer of itself. The kernel's WireGuard ignores such a section without an error, and `wg setconf` relies
        // on that.
        PeerMode::Set | PeerMode::Update if *key == tunnel.public_key() => return,
        PeerMode::Set | PeerMode::Update => tunnel.ensure_peer(key),
    }
    for edit in edits {
        // In the order given, as replace_allowed_ips comes before the ranges that take their place.
        tunnel.edit_peer(now, key, edit);
    }
}
