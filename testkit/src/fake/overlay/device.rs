use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    num::NonZeroU16,
    sync::Arc,
    time::SystemTime,
};

use ipnet::IpNet;
use overlayd_core::{
    contract::{DeviceMtu, DevicePlan, DeviceStatus, Error, PeerChange, PeerEndpoint, PeerPlan, PeerStatus, Result},
    keys::{PresharedKey, PublicKey},
    names::InstanceId,
};

/// What may have an interface name on the host.
#[derive(Debug, Clone)]
pub(super) enum FakeLink {
    Foreign,
    Device(FakeDevice),
}

/// A device of one of us.
#[derive(Debug, Clone)]
pub(super) struct FakeDevice {
    pub(super) mark: InstanceId,
    pub(super) plan: DevicePlan,
    pub(super) port: u16,
    pub(super) mtu: u16,
    pub(super) peers: BTreeMap<PublicKey, FakePeer>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct FakePeer {
    pub(super) preshared_key: Option<PresharedKey>,
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) allowed_ips: BTreeSet<IpNet>,
    pub(super) last_handshake: Option<SystemTime>,
    pub(super) keepalive: Option<NonZeroU16>,
    pub(super) rx_bytes: u64,
    pub(super) tx_bytes: u64,
}

impl FakeLink {
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Foreign => None,
            Self::Device(device) => Some(device.port),
        }
    }

    pub(super) fn is_of(&self, instance: &InstanceId) -> bool {
        matches!(self, Self::Device(device) if device.mark == *instance)
    }
}

impl FakeDevice {
    pub(super) fn change(&mut self, change: &PeerChange) {
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

    pub(super) fn status(&self) -> DeviceStatus {
        DeviceStatus {
            name: self.plan.name.clone(),
            public_key: Some(self.plan.private_key.public_key()),
            listen_port: self.port,
            mtu: self.mtu,
            addresses: self.plan.addresses.clone(),
            peers: Arc::new(self.peers.iter().map(|(key, peer)| peer.status(*key)).collect()),
            dropped: BTreeMap::new(),
        }
    }
}

impl FakePeer {
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

pub(super) fn check_device(plan: &DevicePlan) -> Result<()> {
    let distinct: BTreeSet<_> = plan.addresses.iter().map(IpNet::addr).collect();
    if distinct.len() != plan.addresses.len() {
        return Err(Error::Invalid(format!("an address is named twice for {}", plan.name)));
    }
    match plan.mtu {
        DeviceMtu::Bytes(mtu) if mtu < least_mtu(&plan.addresses) => {
            Err(Error::Invalid(format!("MTU {mtu} of {} is below what IP needs", plan.name)))
        }
        DeviceMtu::Bytes(_) | DeviceMtu::FromUnderlay => Ok(()),
    }
}
