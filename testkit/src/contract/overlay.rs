//! The suite for [`OverlayBackend`].

mod devices;
mod peers;
mod recovery;

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use ipnet::IpNet;
use overlayd_core::{
    contract::{
        DeviceInfo, DeviceMtu, DevicePlan, DeviceStatus, OverlayBackend, PeerChange, PeerEndpoint, PeerPlan, PeerStatus,
    },
    keys::{PrivateKey, PublicKey},
    names::LinkName,
};

pub use self::{devices::*, peers::*, recovery::*};
use super::{HostFacts, assert_code, assert_same_host, link, net, poll_at_most};

/// How the suite reaches a backend and its host.
#[async_trait]
pub trait OverlayHarness: Send {
    /// The backend under test.
    fn backend(&self) -> &dyn OverlayBackend;

    /// The backend of another daemon (another instance) on the same host.
    fn neighbour(&self) -> &dyn OverlayBackend;

    /// Replaces [`Self::backend`] by that of a new process of the same daemon, after the old one was killed.
    async fn restart(&mut self);

    /// What is on the host.
    async fn host(&self) -> HostFacts;

    /// Puts a link (a dummy, a bridge) on the host that no instance of overlayd made.
    async fn put_foreign_link(&self, name: &LinkName);

    /// Lets a remote WireGuard node complete a handshake with the device, from a socket bound to this address with a
    /// port of its choice, and returns the address the device saw. The device has the remote's public key as a peer.
    async fn handshake_from(&self, device: &DeviceInfo, remote: &PrivateKey, from: Ipv4Addr) -> SocketAddr;
}

const DEVICE: &str = "zl-ct-n1-g";

fn private(seed: u8) -> PrivateKey {
    PrivateKey::from_bytes([seed; 32])
}

fn public(seed: u8) -> PublicKey {
    private(seed).public_key()
}

fn device_plan(name: &str, listen_port: u16) -> DevicePlan {
    DevicePlan {
        name: link(name),
        private_key: private(1),
        listen_port,
        addresses: vec![net("10.77.4.1/16"), net("fd77:0:4::1/64")],
        routes: vec![net("fd77::/48")],
        mtu: DeviceMtu::Bytes(1380),
    }
}

fn peer(seed: u8, allowed_ips: &[&str]) -> PeerPlan {
    PeerPlan {
        public_key: public(seed),
        preshared_key: None,
        endpoint: PeerEndpoint::Keep,
        allowed_ips: allowed_ips.iter().map(|text| net(text)).collect(),
        keepalive: None,
    }
}

fn numbered_peer(number: u16) -> PeerPlan {
    let [high, low] = number.to_be_bytes();
    let mut key = [0x5a; 32];
    (key[0], key[1]) = (high, low);
    let range = IpNet::new(Ipv4Addr::new(10, 99, high, low).into(), 32).expect("a host range");
    let public_key = PublicKey::from_bytes(key);
    PeerPlan { public_key, allowed_ips: vec![range], ..peer(0, &[]) }
}

async fn set<H: OverlayHarness>(h: &H, plan: &PeerPlan) {
    h.backend().change_peers(&link(DEVICE), &[PeerChange::Set(plan.clone())]).await.expect("a peer is set");
}

async fn observed<H: OverlayHarness>(h: &H, name: &str) -> DeviceStatus {
    let devices = h.backend().observe().await.expect("a view of the host");
    let mut found = devices.into_iter().find(|device| device.name == link(name)).expect("the device is observed");
    assert!(found.peers.is_sorted_by_key(|peer| peer.public_key), "peers come in the order of their keys");
    Arc::make_mut(&mut found.peers).iter_mut().for_each(|peer| peer.allowed_ips.sort());
    found
}

async fn observed_peer<H: OverlayHarness>(h: &H, seed: u8) -> PeerStatus {
    let peers = observed(h, DEVICE).await.peers;
    peers.iter().find(|peer| peer.public_key == public(seed)).cloned().expect("the peer is observed")
}

fn sorted(mut ranges: Vec<IpNet>) -> Vec<IpNet> {
    ranges.sort();
    ranges
}
