use std::{
    io,
    sync::{Arc, Mutex},
};

use ipnet::IpNet;
use overlayd_core::{
    contract::{DeviceInfo, DeviceStatus, Error, PeerStatus, Result},
    names::{InstanceId, LinkName},
    sync::lock,
};

use super::plan::{self, ResolvedPlan};
use crate::{
    device::{DeviceThreads, SharedDevice},
    handover::HandoverThread,
    io::{interfaces::HostInterfaces, udp::UdpSockets},
    noise::PeerConfig,
    uapi::ControlServer,
};

/// When the first handshake with a new peer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NewPeerPolicy {
    /// Once there is a packet for the peer.
    HandshakeOnDemand,
    /// At once: the peer may hold a session with the process that had this interface before, and would send into it
    /// until it finds out that nothing answers.
    HandshakeAtOnce,
}

/// A device of this process.
///
/// Fields end in this order: first no client comes in any more, then the threads stop, and with the last user of
/// `shared` the interface is closed.
pub(super) struct RunningDevice {
    /// Absent while another process may take the device over.
    pub(super) control: Mutex<Option<ControlServer>>,
    /// Present while the device comes from another process or goes to one.
    pub(super) handover: Mutex<Option<HandoverThread>>,
    pub(super) _threads: DeviceThreads,
    pub(super) shared: Arc<SharedDevice>,
    pub(super) index: u32,
    pub(super) instance: InstanceId,
    pub(super) fwmark: Option<u32>,
    pub(super) new_peers: NewPeerPolicy,
    pub(super) peer_list: Mutex<PeerListCache>,
}

/// The peers when they were last looked at, and the version of them.
#[derive(Default)]
pub(super) struct PeerListCache {
    version: u64,
    peers: Arc<Vec<PeerStatus>>,
}

/// What a device starts from when it replaces one that has failed.
#[derive(Default)]
pub(super) struct InheritedState {
    pub(super) peers: Vec<PeerConfig>,
    /// The port, where the plan leaves it to the host; 0 for none.
    pub(super) port: u16,
}

impl RunningDevice {
    /// An error if a thread of the device has ended by itself.
    pub(super) fn check(&self) -> Result<()> {
        match self.shared.failure() {
            None => Ok(()),
            Some(why) => Err(Error::host("reach the WireGuard device, which stopped working", io::Error::other(why))),
        }
    }

    /// Whether the threads run and the interface is there and ours.
    pub(super) fn is_well(&self, interfaces: &HostInterfaces) -> Result<bool> {
        let found = interfaces.numbered(self.index)?;
        Ok(self.shared.failure().is_none() && found.is_some_and(|found| found.is_ours(&self.instance)))
    }

    /// Makes the running device be as planned. What the host may refuse comes first.
    pub(super) fn reconfigure(&self, interfaces: &HostInterfaces, plan: &ResolvedPlan<'_>) -> Result<()> {
        let sockets = self.other_sockets(plan.plan.listen_port)?;
        self.mark_packets()?;
        let found = interfaces.numbered(self.index)?;
        let found = found.ok_or_else(|| Error::NotFound(format!("interface {}", plan.plan.name)))?;
        interfaces.configure(&found, &plan.link())?;
        if let Some(sockets) = sockets {
            self.shared.replace_sockets(sockets);
        }
        self.shared.with_tunnel(|tunnel| {
            tunnel.set_mtu(plan.mtu);
            if tunnel.private_key() != plan.plan.private_key {
                // A new key ends all sessions, so an equal one must not count as new.
                tunnel.set_private_key(*plan.plan.private_key.as_bytes());
            }
        });
        Ok(())
    }

    /// New sockets, where the plan asks for another port.
    fn other_sockets(&self, port: u16) -> Result<Option<UdpSockets>> {
        let present = self.shared.sockets();
        if port == 0 || port == present.port() {
            return Ok(None);
        }
        plan::bind(port, self.fwmark.unwrap_or(present.mark()), present.offloads()).map(Some)
    }

    /// The mark of the packets that the present sockets send.
    pub(super) fn mark_packets(&self) -> Result<()> {
        let present = self.shared.sockets();
        match self.fwmark {
            Some(mark) if mark != present.mark() => {
                present.set_mark(mark).map_err(|error| Error::host(format!("mark packets with {mark}"), error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn info(&self, plan: &ResolvedPlan<'_>) -> DeviceInfo {
        DeviceInfo {
            name: plan.plan.name.clone(),
            public_key: plan.plan.private_key.public_key(),
            listen_port: self.shared.sockets().port(),
            mtu: plan.mtu,
        }
    }

    pub(super) fn status(&self, name: LinkName, mtu: u16, addresses: Vec<IpNet>) -> DeviceStatus {
        let (public_key, dropped) = self.shared.with_tunnel(|tunnel| (tunnel.public_key(), tunnel.dropped()));
        DeviceStatus {
            name,
            public_key: Some(public_key),
            listen_port: self.shared.sockets().port(),
            mtu,
            addresses,
            peers: self.peers(),
            dropped,
        }
    }

    /// All peers in the order of their keys; the same list for as long as nothing about them changes.
    fn peers(&self) -> Arc<Vec<PeerStatus>> {
        let mut peer_list = lock(&self.peer_list);
        let news = self.shared.with_tunnel(|tunnel| {
            let version = tunnel.peers_version();
            (version != peer_list.version).then(|| (version, tunnel.peer_statuses()))
        });
        if let Some((version, mut peers)) = news {
            // The tunnel has them in the order of their places, which says nothing to a reader.
            peers.sort_unstable_by_key(|peer| peer.public_key);
            peer_list.version = version;
            // The version changes with each packet, the list only with what status shows: an equal one keeps its allocation, and
            // what was made from it.
            if *peer_list.peers != peers {
                peer_list.peers = Arc::new(peers);
            }
        }
        Arc::clone(&peer_list.peers)
    }

    /// What a device that replaces this one starts from.
    pub(super) fn inherited_state(&self) -> InheritedState {
        let snapshot = self.shared.lock().snapshot();
        let peers = snapshot.peers.into_iter().map(PeerConfig::from).collect();
        InheritedState { peers, port: self.shared.sockets().port() }
    }
}
