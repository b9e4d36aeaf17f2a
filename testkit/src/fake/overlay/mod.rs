use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::SystemTime,
};

use async_trait::async_trait;
use overlayd_core::{
    contract::{
        DeviceInfo, DeviceMtu, DevicePlan, DeviceStatus, Error, OverlayBackend, PeerChange, Result, check_peer_changes,
    },
    keys::PublicKey,
    names::{InstanceId, LinkName},
};

use self::device::{FakeDevice, FakeLink, check_device};
use super::{FaultScript, first_instance};

mod device;

/// WireGuard devices in memory. Devices outlive the handle, as the kernel's do; [`FakeOverlay::vanish`] plays a
/// userspace device whose process died.
#[derive(Debug, Clone)]
pub struct FakeOverlay {
    links: Arc<Mutex<BTreeMap<LinkName, FakeLink>>>,
    underlay_mtu: Arc<AtomicU16>,
    instance: InstanceId,
    script: FaultScript,
}

/// Bytes on the wire of a handshake initiation and of its response (WireGuard paper, 5.4.2 and 5.4.3).
const HANDSHAKE_BYTES: (u64, u64) = (148, 92);
/// What WireGuard over UDP over IPv6 adds to a packet, and the MTU that leaves on Ethernet.
const WIREGUARD_BYTES: u16 = 80;
const MOST_MTU: u16 = 1420;
const FIRST_CHOSEN_PORT: u16 = 40_000;

impl Default for FakeOverlay {
    fn default() -> Self {
        Self {
            links: Arc::default(),
            underlay_mtu: Arc::new(AtomicU16::new(1500)),
            instance: first_instance(),
            script: FaultScript::default(),
        }
    }
}

impl FakeOverlay {
    /// The record of calls, and the way to make some fail.
    pub fn script(&self) -> &FaultScript {
        &self.script
    }

    /// What a new process of the same daemon finds: the same host, a fresh script.
    pub fn restarted(&self) -> Self {
        self.neighbour(self.instance.clone())
    }

    /// A host of its own that is now as this one is, for the same daemon.
    pub fn copy(&self) -> Self {
        let links = self.links().iter().map(|(name, link)| (name.clone(), link.clone())).collect();
        let mtu = self.underlay_mtu.load(Ordering::Relaxed);
        Self {
            links: Arc::new(Mutex::new(links)),
            underlay_mtu: Arc::new(AtomicU16::new(mtu)),
            instance: self.instance.clone(),
            script: FaultScript::default(),
        }
    }

    /// A host of its own, like this one, on which the daemon has not done anything yet.
    pub fn untouched(&self) -> Self {
        let copy = self.copy();
        copy.links().retain(|_, link| !link.is_of(&self.instance));
        copy
    }

    /// Another daemon on the same host.
    pub fn neighbour(&self, instance: InstanceId) -> Self {
        Self {
            links: Arc::clone(&self.links),
            underlay_mtu: Arc::clone(&self.underlay_mtu),
            instance,
            script: FaultScript::default(),
        }
    }

    /// Says what the underlay carries from now on, in bytes (1500 until then).
    pub fn set_underlay_mtu(&self, mtu: u16) {
        self.underlay_mtu.store(mtu, Ordering::Relaxed);
    }

    /// Puts a link on the host that belongs to no instance.
    pub fn put_foreign_link(&self, name: LinkName) {
        self.links().insert(name, FakeLink::Foreign);
    }

    /// The device disappears behind the daemon's back.
    pub fn vanish(&self, device: &LinkName) {
        self.links().remove(device);
    }

    /// The peer completes a handshake from this address at this time, which moves its endpoint there. Returns whether
    /// device and peer exist; nothing happens otherwise.
    pub fn handshake(&self, device: &LinkName, peer: &PublicKey, from: SocketAddr, at: SystemTime) -> bool {
        let mut links = self.links();
        let Some(FakeLink::Device(device)) = links.get_mut(device) else { return false };
        let Some(peer) = device.peers.get_mut(peer) else { return false };
        peer.endpoint = Some(from);
        peer.last_handshake = Some(at);
        peer.rx_bytes += HANDSHAKE_BYTES.0;
        peer.tx_bytes += HANDSHAKE_BYTES.1;
        true
    }

    /// Everything on the host, one line per fact.
    pub fn host(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for (name, link) in &*self.links() {
            match link {
                FakeLink::Foreign => lines.insert(format!("link {name} foreign")),
                FakeLink::Device(device) => lines.insert(format!("link {name} {device:?}")),
            };
        }
        lines
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<LinkName, FakeLink>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device as it was, when it is ours; an error when something else has its name or its port.
    fn claim(&self, plan: &DevicePlan) -> Result<Option<FakeDevice>> {
        let links = self.links();
        let before = match links.get(&plan.name) {
            None => None,
            Some(FakeLink::Device(device)) if device.mark == self.instance => Some(device.clone()),
            Some(_) => return Err(conflict(format!("link {}", plan.name), "a link that is not ours")),
        };
        let port_taken = links.iter().any(|(name, link)| match link {
            FakeLink::Device(other) => *name != plan.name && plan.listen_port != 0 && other.port == plan.listen_port,
            FakeLink::Foreign => false,
        });
        match port_taken {
            true => Err(conflict(format!("UDP port {}", plan.listen_port), "another device")),
            false => Ok(before),
        }
    }

    fn mtu_for(&self, plan: &DevicePlan) -> u16 {
        match plan.mtu {
            DeviceMtu::Bytes(mtu) => mtu,
            DeviceMtu::FromUnderlay => {
                self.underlay_mtu.load(Ordering::Relaxed).saturating_sub(WIREGUARD_BYTES).min(MOST_MTU)
            }
        }
    }

    fn port_for(&self, plan: &DevicePlan, before: Option<&FakeDevice>) -> u16 {
        if plan.listen_port != 0 {
            return plan.listen_port;
        }
        let taken: BTreeSet<u16> = self.links().values().filter_map(FakeLink::port).collect();
        before.map(|device| device.port).unwrap_or_else(|| {
            (FIRST_CHOSEN_PORT..).find(|port| !taken.contains(port)).expect("fewer devices than ports")
        })
    }
}

#[async_trait]
impl OverlayBackend for FakeOverlay {
    fn name(&self) -> &'static str {
        "fake-overlay"
    }

    async fn ensure_device(&self, plan: &DevicePlan) -> Result<DeviceInfo> {
        let call = self.script.enter("ensure_device", &plan.name).await?;
        check_device(plan)?;
        let before = self.claim(plan)?;
        let port = self.port_for(plan, before.as_ref());
        let mtu = self.mtu_for(plan);
        if before.is_none() {
            let bare = DevicePlan { addresses: Vec::new(), routes: Vec::new(), ..plan.clone() };
            let device = FakeDevice { mark: self.instance.clone(), plan: bare, port, mtu, peers: BTreeMap::new() };
            self.links().insert(plan.name.clone(), FakeLink::Device(device));
        }
        if let Err(error) = self.script.half_way(&call).await {
            if before.is_none() {
                self.links().remove(&plan.name);
            }
            return Err(error);
        }
        let mut links = self.links();
        let Some(FakeLink::Device(device)) = links.get_mut(&plan.name) else {
            return Err(Error::NotFound(format!("device {}", plan.name)));
        };
        device.plan = plan.clone();
        (device.port, device.mtu) = (port, mtu);
        let public_key = plan.private_key.public_key();
        Ok(DeviceInfo { name: plan.name.clone(), public_key, listen_port: port, mtu })
    }

    async fn change_peers(&self, name: &LinkName, changes: &[PeerChange]) -> Result<()> {
        let call = self.script.enter("change_peers", name).await?;
        self.script.half_way(&call).await?;
        let mut links = self.links();
        let Some(FakeLink::Device(device)) = links.get_mut(name).filter(|link| link.is_of(&self.instance)) else {
            return Err(Error::NotFound(format!("device {name}")));
        };
        check_peer_changes(Some(&device.plan.private_key.public_key()), changes)?;
        changes.iter().for_each(|change| device.change(change));
        Ok(())
    }

    async fn observe(&self) -> Result<Vec<DeviceStatus>> {
        self.script.enter("observe", "").await?;
        let links = self.links();
        Ok(links
            .values()
            .filter_map(|link| match link {
                FakeLink::Device(device) if device.mark == self.instance => Some(device.status()),
                _ => None,
            })
            .collect())
    }

    async fn remove_device(&self, name: &LinkName) -> Result<()> {
        let call = self.script.enter("remove_device", name).await?;
        self.script.half_way(&call).await?;
        let mut links = self.links();
        if links.get(name).is_some_and(|link| link.is_of(&self.instance)) {
            links.remove(name);
        }
        Ok(())
    }
}

fn conflict(what: String, by: &str) -> Error {
    Error::Conflict { what, by: by.into() }
}
