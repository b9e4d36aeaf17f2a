//! Everything that is said to WireGuard itself, by `wireguard-control`.

use std::{collections::BTreeMap, io, num::NonZeroU16, time::SystemTime};

use ipnet::IpNet;
use overlayd_core::{
    contract::{Error, PeerEndpoint, PeerPlan, PeerStatus, Result},
    keys::{PresharedKey, PrivateKey, PublicKey},
    names::LinkName,
};
use overlayd_netlink::{device, steps};
use rustix::io::Errno;
use wireguard_control::{Backend, Device, DeviceUpdate, Key, PeerConfigBuilder, PeerInfo};

use crate::{
    changes::KernelStep,
    peer_cache::{PeerCache, PeerSettings},
};

/// Ranges in one message about a peer. The messages of `wireguard-control` have room for 8 KiB, and it refuses what does
/// not fit; 64 IPv6 ranges take 2.5 KiB.
const RANGES_AT_ONCE: usize = 64;

/// A device as the kernel describes it.
pub(crate) struct DeviceState {
    pub(crate) private_key: Option<PrivateKey>,
    pub(crate) listen_port: u16,
    pub(crate) fwmark: u32,
    pub(crate) peers: BTreeMap<PublicKey, PeerState>,
}

/// A peer as the kernel describes it.
#[derive(Default)]
pub(crate) struct PeerState {
    pub(crate) known: PeerSettings,
    last_handshake: Option<SystemTime>,
    rx_bytes: u64,
    tx_bytes: u64,
}

/// Settings of a device to change, all or none. Without a change no request is sent.
#[derive(Default)]
pub(crate) struct DeviceSettings {
    pub(crate) private_key: Option<PrivateKey>,
    pub(crate) listen_port: Option<u16>,
    pub(crate) fwmark: Option<u32>,
}

/// Reads the device with all its peers.
pub(crate) fn read(name: &LinkName) -> Result<DeviceState> {
    let device = Device::get(&interface(name)?, Backend::Kernel).map_err(|error| failed(name, "read", error))?;
    let mut peers = BTreeMap::<PublicKey, PeerState>::new();
    for info in device.peers {
        let key = PublicKey::from_bytes(info.config.public_key.0);
        peers.entry(key).or_default().take_in(info);
    }
    let private_key = device.private_key.map(|key| PrivateKey::from_bytes(key.0));
    let (listen_port, fwmark) = (device.listen_port.unwrap_or_default(), device.fwmark.unwrap_or_default());
    Ok(DeviceState { private_key, listen_port, fwmark, peers })
}

/// Changes settings of the device.
pub(crate) fn configure(name: &LinkName, settings: &DeviceSettings) -> Result<()> {
    let mut update = DeviceUpdate::new();
    if let Some(key) = &settings.private_key {
        update = update.set_private_key(Key(*key.as_bytes()));
    }
    if let Some(port) = settings.listen_port {
        update = update.set_listen_port(port);
    }
    if let Some(mark) = settings.fwmark {
        update = update.set_fwmark(mark);
    }
    match settings {
        DeviceSettings { private_key: None, listen_port: None, fwmark: None } => Ok(()),
        _ => apply(name, update).map_err(|error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::ADDRINUSE) => device::port_taken(settings.listen_port.unwrap_or_default()),
            _ => failed(name, "configure", error),
        }),
    }
}

/// Says the steps to the kernel in order.
pub(crate) fn carry_out(name: &LinkName, steps: &[KernelStep]) -> Result<()> {
    let mut update = DeviceUpdate::new();
    for step in steps {
        match step {
            KernelStep::Put(plan) => update = update.add_peers(&put(plan)),
            KernelStep::Remove(key) => update = update.remove_peer_by_key(&Key(*key.as_bytes())),
        }
    }
    if steps.is_empty() { Ok(()) } else { apply(name, update).map_err(|error| failed(name, "change peers of", error)) }
}

fn apply(name: &LinkName, update: DeviceUpdate) -> io::Result<()> {
    let interface = name.as_str().parse().map_err(io::Error::from)?;
    update.apply(&interface, Backend::Kernel)?;
    steps::done("configure a device");
    Ok(())
}

fn put(plan: &PeerPlan) -> Vec<PeerConfigBuilder> {
    let key = Key(*plan.public_key.as_bytes());
    let mut first = PeerConfigBuilder::new(&key);
    first = match &plan.preshared_key {
        Some(psk) => first.set_preshared_key(Key(*psk.as_bytes())),
        None => first.unset_preshared_key(),
    };
    if let PeerEndpoint::Set(endpoint) = plan.endpoint {
        first = first.set_endpoint(endpoint);
    }
    first = first.set_persistent_keepalive_interval(plan.keepalive.map_or(0, NonZeroU16::get));
    let mut parts = Vec::new();
    let mut part = first;
    for ranges in plan.allowed_ips.chunks(RANGES_AT_ONCE) {
        part = ranges.iter().fold(part, |part, range| part.add_allowed_ip(range.network(), range.prefix_len()));
        parts.push(part);
        part = PeerConfigBuilder::new(&key);
    }
    if parts.is_empty() {
        parts.push(part);
    }
    parts
}

impl DeviceState {
    pub(crate) fn public_key(&self) -> Option<PublicKey> {
        self.private_key.as_ref().map(PrivateKey::public_key)
    }

    pub(crate) fn cache(&self, index: u32) -> PeerCache {
        let mut cache = PeerCache::new(index, self.public_key());
        self.peers.iter().for_each(|(key, peer)| cache.note(*key, peer.known.clone()));
        cache
    }
}

impl PeerState {
    pub(crate) fn status(&self, public_key: PublicKey) -> PeerStatus {
        PeerStatus {
            public_key,
            endpoint: self.known.endpoint,
            allowed_ips: self.known.ranges.iter().copied().collect(),
            last_handshake: self.last_handshake,
            rx_bytes: self.rx_bytes,
            tx_bytes: self.tx_bytes,
            keepalive: self.known.keepalive,
        }
    }

    /// The kernel goes on with a peer's ranges in its next message, which repeats the key alone; `wireguard-control`
    /// hands that over as one more peer.
    fn take_in(&mut self, info: PeerInfo) {
        let (config, stats) = (info.config, info.stats);
        let ranges = config.allowed_ips.iter().filter_map(|range| IpNet::new(range.address, range.cidr).ok());
        self.known.ranges.extend(ranges);
        let psk = config.preshared_key.filter(|key| key.0 != [0; 32]).map(|key| PresharedKey::from_bytes(key.0));
        self.known.preshared_key = psk.or(self.known.preshared_key.take());
        self.known.endpoint = config.endpoint.or(self.known.endpoint);
        let keepalive = config.persistent_keepalive_interval.and_then(NonZeroU16::new);
        self.known.keepalive = keepalive.or(self.known.keepalive);
        self.last_handshake = stats.last_handshake_time.or(self.last_handshake);
        self.rx_bytes += stats.rx_bytes;
        self.tx_bytes += stats.tx_bytes;
    }
}

fn interface(name: &LinkName) -> Result<wireguard_control::InterfaceName> {
    name.as_str().parse().map_err(|error| failed(name, "name", io::Error::from(error)))
}

fn failed(name: &LinkName, verb: &str, error: io::Error) -> Error {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NODEV) => Error::NotFound(format!("WireGuard device {name}")),
        _ => Error::host(format!("{verb} WireGuard device {name}"), error),
    }
}
