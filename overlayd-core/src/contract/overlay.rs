use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU16, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use ipnet::IpNet;

use super::{Handover, Result};
use crate::{
    keys::{PresharedKey, PrivateKey, PublicKey},
    names::LinkName,
};

/// WireGuard devices and their peers. Packets never cross this trait.
#[async_trait]
pub trait OverlayBackend: Send + Sync + 'static {
    /// The backend's name in logs and `status`, as `userspace-wg`.
    fn name(&self) -> &'static str;

    /// Makes the device be as planned: present, up, with this key, port, MTU, addresses and routes. Peers stay as they
    /// are. Addresses and routes that an earlier plan named and this one does not are removed.
    async fn ensure_device(&self, plan: &DevicePlan) -> Result<DeviceInfo>;

    /// Applies the changes in order, all or none, at a cost of the changes and not of the peers present. Traffic of
    /// peers that are not named, and of a named peer's unchanged AllowedIPs, is not disturbed. The device's own key as a
    /// peer is [`super::Error::Invalid`].
    async fn change_peers(&self, device: &LinkName, changes: &[PeerChange]) -> Result<()>;

    /// The devices that carry our mark, with their peers.
    async fn observe(&self) -> Result<Vec<DeviceStatus>>;

    /// Removes the device with its addresses, routes and sessions.
    async fn remove_device(&self, device: &LinkName) -> Result<()>;

    /// How a successor gets what this backend holds in this process; `None` where it holds nothing.
    fn handover(&self) -> Option<&dyn Handover> {
        None
    }
}

/// A WireGuard device as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePlan {
    /// Interface name.
    pub name: LinkName,
    /// The node's identity on this device.
    pub private_key: PrivateKey,
    /// UDP port, both families; 0 lets the host choose.
    pub listen_port: u16,
    /// Own addresses with their on-link prefix (the prefix yields the connected route).
    pub addresses: Vec<IpNet>,
    /// Further ranges routed into the device.
    pub routes: Vec<IpNet>,
    /// Largest inner packet.
    pub mtu: DeviceMtu,
}

/// Which MTU a device gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceMtu {
    /// What the underlay carries less 80 bytes of WireGuard over IPv6 and UDP (40 + 8 + 32), at most 1420: the smallest
    /// MTU among the interfaces that peers may be reached by.
    FromUnderlay,
    /// This many bytes.
    Bytes(u16),
}

/// A WireGuard device as it came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Interface name; differs from the planned one only where the host chooses names.
    pub name: LinkName,
    /// Public half of the device's key.
    pub public_key: PublicKey,
    /// The UDP port in use.
    pub listen_port: u16,
    /// MTU in bytes.
    pub mtu: u16,
}

/// One change to the peers of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerChange {
    /// Makes the peer be as planned, whether known or new. An AllowedIP that another peer holds moves to this one.
    Set(PeerPlan),
    /// Removes the peer; an unknown one is no error.
    Remove(PublicKey),
}

/// A peer as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPlan {
    /// Who the peer is.
    pub public_key: PublicKey,
    /// Additional symmetric key of this pair.
    pub preshared_key: Option<PresharedKey>,
    /// Where to send to.
    pub endpoint: PeerEndpoint,
    /// All ranges routed to, and accepted from, this peer.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between keepalives while idle; `None` is off.
    pub keepalive: Option<NonZeroU16>,
}

/// What to do with a peer's endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerEndpoint {
    /// Leaves what the device knows, for a new peer nothing until it speaks.
    Keep,
    /// Sends there from now on, until the peer roams.
    Set(SocketAddr),
}

/// A device as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStatus {
    /// Interface name.
    pub name: LinkName,
    /// Public half of the device's key, when it has one.
    pub public_key: Option<PublicKey>,
    /// The UDP port in use.
    pub listen_port: u16,
    /// MTU in bytes.
    pub mtu: u16,
    /// Addresses on the interface.
    pub addresses: Vec<IpNet>,
    /// Peers in the order of their keys. While nothing about them changes a backend may give the same list again, so that
    /// a caller that has read it need not read it twice.
    pub peers: Arc<Vec<PeerStatus>>,
    /// Packets dropped since the device came up, by reason; empty where the backend cannot tell.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// A peer as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who the peer is.
    pub public_key: PublicKey,
    /// Where packets to it go, once known.
    pub endpoint: Option<SocketAddr>,
    /// Ranges routed to it.
    pub allowed_ips: Vec<IpNet>,
    /// Wall-clock time of the last completed handshake.
    pub last_handshake: Option<SystemTime>,
    /// Bytes received from it, as counted on the wire.
    pub rx_bytes: u64,
    /// Bytes sent to it, as counted on the wire.
    pub tx_bytes: u64,
    /// Seconds between keepalives while idle; `None` is off.
    pub keepalive: Option<NonZeroU16>,
}
