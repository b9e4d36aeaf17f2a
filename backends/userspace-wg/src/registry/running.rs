use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use ipnet::IpNet;
use overlayd_core::{
    contract::{DeviceInfo, DeviceStatus, Error, PeerStatus, Result},
    names::{InstanceId, LinkName},
};
use overlayd_netlink::Rtnl;

use super::{
    devices::host,
    handover::Handover,
    make::{Heritage, Resolved},
};
use crate::{
    device::{Shared, Threads},
    io::{
        link::{self, LinkPlan},
        udp::Sockets,
    },
    noise::{Endpoint, PeerConfig, PeerSnapshot},
    uapi::Server,
};

/// How new peers are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Newcomers {
    /// There is a session once there is something to say.
    Quietly,
    /// By a handshake at once: they may hold a session with the process that had this interface before.
    Greeted,
}

/// A device of this process. Fields end in this order: first nobody new comes in, then the threads stop, and with the
/// last user of `shared` the interface is closed.
pub(super) struct Running {
    /// Absent while another process may take the device over.
    pub(super) control: Mutex<Option<Server>>,
    pub(super) handover: Mutex<Option<Handover>>,
    pub(super) _threads: Threads,
    pub(super) shared: Arc<Shared>,
    pub(super) index: u32,
    pub(super) instance: InstanceId,
    pub(super) fwmark: Option<u32>,
    pub(super) newcomers: Newcomers,
    pub(super) listed: Mutex<Listed>,
}

/// The peers when they were last looked at, and the version of them.
#[derive(Default)]
pub(super) struct Listed {
    version: u64,
    peers: Arc<Vec<PeerStatus>>,
}

impl Running {
    /// An error if a thread of the device has ended by itself.
    pub(super) fn check(&self) -> Result<()> {
        match self.shared.failure() {
            None => Ok(()),
            Some(why) => Err(Error::host("reach the WireGuard device, which stopped working", io::Error::other(why))),
        }
    }

    /// Whether the threads run and the interface is there and ours.
    pub(super) fn is_well(&self, rtnl: &Rtnl) -> Result<bool> {
        let found = rtnl.link(self.index).map_err(host)?;
        Ok(self.shared.failure().is_none() && found.is_some_and(|found| link::is_ours(&found, &self.instance)))
    }

    /// Makes the running device be as planned. What the host may refuse comes first.
    pub(super) fn reconfigure(&self, rtnl: &Rtnl, plan: &Resolved<'_>) -> Result<()> {
        let sockets = self.other_sockets(plan.plan.listen_port)?;
        self.mark_packets()?;
        let found = rtnl.link(self.index).map_err(host)?;
        let found = found.ok_or_else(|| Error::NotFound(format!("interface {}", plan.plan.name)))?;
        link::configure(rtnl, &found, &plan.link()).map_err(host)?;
        if let Some(sockets) = sockets {
            self.shared.replace_sockets(sockets);
        }
        self.shared.with_engine(|engine| {
            engine.set_mtu(plan.mtu);
            if engine.private_key() != plan.plan.private_key {
                engine.set_private_key(*plan.plan.private_key.as_bytes());
            }
        });
        Ok(())
    }

    /// New sockets, where the plan asks for another port.
    fn other_sockets(&self, port: u16) -> Result<Option<Sockets>> {
        let present = self.shared.sockets();
        if port == 0 || port == present.port() {
            return Ok(None);
        }
        super::make::bind(port, self.fwmark.unwrap_or(present.mark()), present.offloads()).map(Some)
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

    pub(super) fn info(&self, plan: &Resolved<'_>) -> DeviceInfo {
        DeviceInfo {
            name: plan.plan.name.clone(),
            public_key: plan.plan.private_key.public_key(),
            listen_port: self.shared.sockets().port(),
            mtu: plan.mtu,
        }
    }

    pub(super) fn status(&self, name: LinkName, mtu: u16, addresses: Vec<IpNet>) -> DeviceStatus {
        let (public_key, dropped) = self.shared.with_engine(|engine| (engine.public_key(), engine.dropped()));
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
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let news = self.shared.with_engine(|engine| {
            let version = engine.peers_version();
            (version != listed.version).then(|| (version, engine.peer_statuses()))
        });
        if let Some((version, mut peers)) = news {
            peers.sort_unstable_by_key(|peer| peer.public_key);
            listed.version = version;
            if *listed.peers != peers {
                listed.peers = Arc::new(peers);
            }
        }
        Arc::clone(&listed.peers)
    }

    /// What a device that replaces this one takes over.
    pub(super) fn heritage(&self) -> Heritage {
        let snapshot = self.shared.lock().snapshot();
        let config = |peer: PeerSnapshot| PeerConfig {
            key: peer.key,
            psk: peer.psk,
            endpoint: peer.endpoint.map_or(Endpoint::Keep, Endpoint::Set),
            keepalive: peer.keepalive,
            allowed_ips: peer.allowed_ips,
        };
        let peers = snapshot.peers.into_iter().map(config).collect();
        Heritage { peers, port: self.shared.sockets().port() }
    }
}

impl<'a> Resolved<'a> {
    pub(super) fn link(&self) -> LinkPlan<'a> {
        LinkPlan { addresses: &self.plan.addresses, routes: &self.plan.routes, mtu: self.mtu }
    }
}
