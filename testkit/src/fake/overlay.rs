use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    num::NonZeroU16,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use async_trait::async_trait;
use ipnet::IpNet;
use overlayd_core::{
    contract::{
        DeviceInfo, DevicePlan, DeviceStatus, Error, OverlayBackend, PeerChange, PeerEndpoint, PeerPlan, PeerStatus,
        Result,
    },
    keys::{PresharedKey, PublicKey},
    names::{InstanceId, LinkName},
};

use super::{Script, first_instance};

/// WireGuard devices in memory. Devices outlive the handle, as the kernel's do; [`FakeOverlay::vanish`] plays a
/// userspace device whose process died.
#[derive(Debug, Clone)]
pub struct FakeOverlay {
    links: Arc<Mutex<BTreeMap<LinkName, Link>>>,
    instance: InstanceId,
    script: Script,
}

#[derive(Debug)]
enum Link {
    Foreign,
    Device(Device),
}

#[derive(Debug, Clone)]
struct Device {
    mark: InstanceId,
    plan: DevicePlan,
    port: u16,
    peers: BTreeMap<PublicKey, Peer>,
}

#[derive(Debug, Clone, Default)]
struct Peer {
    preshared_key: Option<PresharedKey>,
    endpoint: Option<SocketAddr>,
    allowed_ips: BTreeSet<IpNet>,
    last_handshake: Option<SystemTime>,
    keepalive: Option<NonZeroU16>,
    rx_bytes: u64,
    tx_bytes: u64,
}

/// Bytes on the wire of a handshake initiation and of its response (WireGuard paper, 5.4.2 and 5.4.3).
const HANDSHAKE_BYTES: (u64, u64) = (148, 92);
const FIRST_CHOSEN_PORT: u16 = 40_000;

impl Default for FakeOverlay {
    fn default() -> Self {
        Self { links: Arc::default(), instance: first_instance(), script: Script::default() }
    }
}

impl FakeOverlay {
    /// The record of calls, and the way to make some fail.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// What a new process of the same daemon finds: the same host, a fresh script.
    pub fn restarted(&self) -> Self {
        self.neighbour(self.instance.clone())
    }

    /// Another daemon on the same host.
    pub fn neighbour(&self, instance: InstanceId) -> Self {
        Self { links: Arc::clone(&self.links), instance, script: Script::default() }
    }

    /// Puts a link on the host that is nobody's of us.
    pub fn put_foreign_link(&self, name: LinkName) {
        self.links().insert(name, Link::Foreign);
    }

    /// The device disappears behind the daemon's back.
    pub fn vanish(&self, device: &LinkName) {
        self.links().remove(device);
    }

    /// The peer completes a handshake from this address at this time, which moves its endpoint there. Returns whether
    /// device and peer exist; nothing happens otherwise.
    pub fn handshake(&self, device: &LinkName, peer: &PublicKey, from: SocketAddr, at: SystemTime) -> bool {
        let mut links = self.links();
        let Some(Link::Device(device)) = links.get_mut(device) else { return false };
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
                Link::Foreign => lines.insert(format!("link {name} foreign")),
                Link::Device(device) => lines.insert(format!("link {name} {device:?}")),
            };
        }
        lines
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<LinkName, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device as it was, when it is ours; an error when something else has its name or its port.
    fn claim(&self, plan: &DevicePlan) -> Result<Option<Device>> {
        let links = self.links();
        let before = match links.get(&plan.name) {
            None => None,
            Some(Link::Device(device)) if device.mark == self.instance => Some(device.clone()),
            Some(_) => return Err(conflict(format!("link {}", plan.name), "a link that is not ours")),
        };
        let port_taken = links.iter().any(|(name, link)| match link {
            Link::Device(other) => *name != plan.name && plan.listen_port != 0 && other.port == plan.listen_port,
            Link::Foreign => false,
        });
        match port_taken {
            true => Err(conflict(format!("UDP port {}", plan.listen_port), "another device")),
            false => Ok(before),
        }
    }

    fn port_for(&self, plan: &DevicePlan, before: Option<&Device>) -> u16 {
        if plan.listen_port != 0 {
            return plan.listen_port;
        }
        let taken: BTreeSet<u16> = self.links().values().filter_map(Link::port).collect();
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
        if before.is_none() {
            let bare = DevicePlan { addresses: Vec::new(), routes: Vec::new(), ..plan.clone() };
            let device = Device { mark: self.instance.clone(), plan: bare, port, peers: BTreeMap::new() };
            self.links().insert(plan.name.clone(), Link::Device(device));
        }
        if let Err(error) = self.script.half_way(&call).await {
            if before.is_none() {
                self.links().remove(&plan.name);
            }
            return Err(error);
        }
        let mut links = self.links();
        let Some(Link::Device(device)) = links.get_mut(&plan.name) else {
            return Err(Error::NotFound(format!("device {}", plan.name)));
        };
        device.plan = plan.clone();
        device.port = port;
        Ok(DeviceInfo { name: plan.name.clone(), public_key: plan.private_key.public_key(), listen_port: port })
    }

    async fn change_peers(&self, name: &LinkName, changes: &[PeerChange]) -> Result<()> {
        let call = self.script.enter("change_peers", name).await?;
        self.script.half_way(&call).await?;
        let mut links = self.links();
        let Some(Link::Device(device)) = links.get_mut(name).filter(|link| link.is_of(&self.instance)) else {
            return Err(Error::NotFound(format!("device {name}")));
        };
        let own = device.plan.private_key.public_key();
        if changes.iter().any(|change| matches!(change, PeerChange::Set(peer) if peer.public_key == own)) {
            return Err(Error::Invalid(format!("{own} is the key of {name} itself and cannot be its peer")));
        }
        changes.iter().for_each(|change| device.change(change));
        Ok(())
    }

    async fn observe(&self) -> Result<Vec<DeviceStatus>> {
        self.script.enter("observe", "").await?;
        let links = self.links();
        Ok(links
            .values()
            .filter_map(|link| match link {
                Link::Device(device) if device.mark == self.instance => Some(device.status()),
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

impl Link {
    fn port(&self) -> Option<u16> {
        match self {
            Self::Foreign => None,
            Self::Device(device) => Some(device.port),
        }
    }

    fn is_of(&self, instance: &InstanceId) -> bool {
        matches!(self, Self::Device(device) if device.mark == *instance)
    }
}

impl Device {
    fn change(&mut self, change: &PeerChange) {
        match change {
            PeerChange::Remove(key) => {
                self.peers.remove(key);
            }
            PeerChange::Set(plan) => self.set(plan),
        }
    }

    fn set(&mut self, plan: &PeerPlan) {
        let claimed: BTreeSet<IpNet> = plan.allowed_ips.iter().map(IpNet::trunc).collect();
        for (_, other) in self.peers.iter_mut().filter(|(key, _)| **key != plan.public_key) {
            other.allowed_ips.retain(|range| !claimed.contains(range));
        }
        let peer = self.peers.entry(plan.public_key).or_default();
        peer.allowed_ips = claimed;
        peer.preshared_key.clone_from(&plan.preshared_key);
        peer.keepalive = plan.keepalive;
        if let PeerEndpoint::Set(address) = plan.endpoint {
            peer.endpoint = Some(address);
        }
    }

    fn status(&self) -> DeviceStatus {
        DeviceStatus {
            name: self.plan.name.clone(),
            public_key: Some(self.plan.private_key.public_key()),
            listen_port: self.port,
            mtu: self.plan.mtu,
            addresses: self.plan.addresses.clone(),
            peers: self.peers.iter().map(|(key, peer)| peer.status(*key)).collect(),
            dropped: BTreeMap::new(),
        }
    }
}

impl Peer {
    fn status(&self, public_key: PublicKey) -> PeerStatus {
        PeerStatus {
            public_key,
            endpoint: self.endpoint,
            allowed_ips: self.allowed_ips.iter().copied().collect(),
            last_handshake: self.last_handshake,
            rx_bytes: self.rx_bytes,
            tx_bytes: self.tx_bytes,
            keepalive: self.keepalive,
        }
    }
}

/// Smallest MTU of a link that carries IPv4 (RFC 791) and IPv6 (RFC 8200).
fn least_mtu(addresses: &[IpNet]) -> u16 {
    if addresses.iter().any(|address| matches!(address, IpNet::V6(_))) { 1280 } else { 68 }
}

fn check_device(plan: &DevicePlan) -> Result<()> {
    let distinct: BTreeSet<_> = plan.addresses.iter().map(IpNet::addr).collect();
    if distinct.len() != plan.addresses.len() {
        return Err(Error::Invalid(format!("an address is named twice for {}", plan.name)));
    }
    if plan.mtu < least_mtu(&plan.addresses) {
        return Err(Error::Invalid(format!("MTU {} of {} is below what IP needs", plan.mtu, plan.name)));
    }
    Ok(())
}

fn conflict(what: String, by: &str) -> Error {
    Error::Conflict { what, by: by.into() }
}
