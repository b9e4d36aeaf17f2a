//! The suite for [`OverlayBackend`].

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU16,
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

    /// Puts a link (a dummy, a bridge) on the host that nobody of us made.
    async fn put_foreign_link(&self, name: &LinkName);

    /// Lets a remote WireGuard node complete a handshake with the device, from a socket bound to this address with a
    /// port of its choice, and returns the address the device saw. The device has the remote's public key as a peer.
    async fn handshake_from(&self, device: &DeviceInfo, remote: &PrivateKey, from: Ipv4Addr) -> SocketAddr;
}

const DEVICE: &str = "zl-ct-n1-g";

/// Key, port, MTU and addresses are as planned, in the reply and when observed.
pub async fn a_device_is_made_as_planned<H: OverlayHarness>(h: &mut H) {
    let plan = device_plan(DEVICE, 51871);
    let info = h.backend().ensure_device(&plan).await.expect("a device");
    assert_eq!(info, DeviceInfo { name: plan.name, public_key: public(1), listen_port: 51871, mtu: 1380 });
    let seen = observed(h, DEVICE).await;
    assert_eq!((seen.public_key, seen.listen_port, seen.mtu), (Some(public(1)), 51871, 1380));
    assert_eq!(sorted(seen.addresses), [net("10.77.4.1/16"), net("fd77:0:4::1/64")]);
    assert!(seen.peers.is_empty());
}

/// The second call changes neither reply nor host.
pub async fn making_a_device_twice_changes_nothing<H: OverlayHarness>(h: &mut H) {
    let plan = device_plan(DEVICE, 51871);
    let first = h.backend().ensure_device(&plan).await.expect("a device");
    let before = h.host().await;
    assert_eq!(h.backend().ensure_device(&plan).await.expect("the same device"), first);
    assert_same_host(&before, &h.host().await, "the second ensure_device");
}

/// Port 0 lets the host choose, and the choice stays.
pub async fn a_chosen_port_is_kept<H: OverlayHarness>(h: &mut H) {
    let plan = device_plan(DEVICE, 0);
    let first = h.backend().ensure_device(&plan).await.expect("a device");
    assert_ne!(first.listen_port, 0);
    let second = h.backend().ensure_device(&plan).await.expect("the same device");
    assert_eq!(first.listen_port, second.listen_port);
}

/// Addresses, MTU and key change in place; peers stay.
pub async fn a_changed_plan_is_applied_in_place<H: OverlayHarness>(h: &mut H) {
    let mut plan = device_plan(DEVICE, 51871);
    h.backend().ensure_device(&plan).await.expect("a device");
    set(h, &peer(2, &["10.77.8.0/26"])).await;
    plan.addresses = vec![net("10.77.5.1/16")];
    plan.mtu = DeviceMtu::Bytes(1300);
    plan.private_key = private(9);
    let info = h.backend().ensure_device(&plan).await.expect("the changed device");
    assert_eq!((info.public_key, info.mtu), (public(9), 1300));
    let seen = observed(h, DEVICE).await;
    assert_eq!((seen.addresses, seen.mtu), (vec![net("10.77.5.1/16")], 1300));
    assert_eq!(seen.peers.len(), 1, "a change of the device is no change of its peers");
}

/// Removing what never was succeeds, and changes nothing.
pub async fn removing_an_absent_device_succeeds<H: OverlayHarness>(h: &mut H) {
    let before = h.host().await;
    h.backend().remove_device(&link(DEVICE)).await.expect("nothing to do");
    assert_same_host(&before, &h.host().await, "removing nothing");
}

/// After removal the host is as it was before.
pub async fn a_removed_device_leaves_nothing<H: OverlayHarness>(h: &mut H) {
    let before = h.host().await;
    h.backend().ensure_device(&device_plan(DEVICE, 51871)).await.expect("a device");
    set(h, &peer(2, &["10.77.8.0/26"])).await;
    assert_ne!(before, h.host().await, "the harness does not see the device");
    h.backend().remove_device(&link(DEVICE)).await.expect("removal");
    assert_same_host(&before, &h.host().await, "remove_device");
    assert!(h.backend().observe().await.expect("a view").is_empty());
}

/// A port in use is an error, and no device stays behind.
pub async fn a_refused_device_leaves_nothing<H: OverlayHarness>(h: &mut H) {
    h.neighbour().ensure_device(&device_plan("zl-nb-n1-g", 51871)).await.expect("the neighbour's device");
    let before = h.host().await;
    let plan = DevicePlan { addresses: vec![net("10.88.4.1/16")], ..device_plan(DEVICE, 51871) };
    assert_code(h.backend().ensure_device(&plan).await, &["conflict", "host"]);
    assert_same_host(&before, &h.host().await, "a refused ensure_device");
}

/// A link that is not ours keeps its name; ours is refused.
pub async fn a_foreign_link_is_a_conflict_and_stays<H: OverlayHarness>(h: &mut H) {
    h.put_foreign_link(&link(DEVICE)).await;
    let before = h.host().await;
    assert_code(h.backend().ensure_device(&device_plan(DEVICE, 51871)).await, &["conflict"]);
    h.backend().remove_device(&link(DEVICE)).await.expect("nothing of ours to remove");
    assert_same_host(&before, &h.host().await, "meeting a foreign link");
}

/// Two daemons on one host: neither sees, takes over nor removes the other's device.
pub async fn two_instances_do_not_touch_each_other<H: OverlayHarness>(h: &mut H) {
    h.neighbour().ensure_device(&device_plan("zl-nb-n1-g", 51872)).await.expect("the neighbour's device");
    let before = h.host().await;
    assert!(h.backend().observe().await.expect("a view").is_empty());
    h.backend().remove_device(&link("zl-nb-n1-g")).await.expect("nothing of ours to remove");
    assert_code(h.backend().ensure_device(&device_plan("zl-nb-n1-g", 51873)).await, &["conflict"]);
    let change = [PeerChange::Set(peer(3, &[]))];
    assert_code(h.backend().change_peers(&link("zl-nb-n1-g"), &change).await, &["not_found", "conflict"]);
    assert_same_host(&before, &h.host().await, "meeting another instance's device");
}

/// Peers of a device that does not exist are an error, never a silent success.
pub async fn peers_of_an_absent_device_are_not_found<H: OverlayHarness>(h: &mut H) {
    let change = [PeerChange::Set(peer(2, &[]))];
    assert_code(h.backend().change_peers(&link(DEVICE), &change).await, &["not_found"]);
}

/// What was set is what is observed.
pub async fn a_peer_is_set_as_planned<H: OverlayHarness>(h: &mut H) {
    h.backend().ensure_device(&device_plan(DEVICE, 51871)).await.expect("a device");
    let plan = PeerPlan {
        endpoint: PeerEndpoint::Set("192.0.2.7:51820".parse().expect("an address")),
        keepalive: NonZeroU16::new(25),
        ..peer(2, &["10.77.8.0/26", "fd77:0:8::/64"])
    };
    set(h, &plan).await;
    let seen = observed_peer(h, 2).await;
    assert_eq!(seen.endpoint, Some("192.0.2.7:51820".parse().expect("an address")));
    assert_eq!(sorted(seen.allowed_ips), [net("10.77.8.0/26"), net("fd77:0:8::/64")]);
    assert_eq!((seen.keepalive, seen.last_handshake), (NonZeroU16::new(25), None));
}

/// The second time changes nothing.
pub async fn a_peer_set_twice_is_one_peer<H: OverlayHarness>(h: &mut H) {
    h.backend().ensure_device(&device_plan(DEVICE, 51871)).await.expect("a device");
    set(h, &peer(2, &["10.77.8.0/26"])).await;
    let before = observed(h, DEVICE).await;
    set(h, &peer(2, &["10.77.8.0/26"])).await;
    assert_eq!(observed(h, DEVICE).await, before);
}

/// The plan is the whole truth about the peer's ranges and keepalive.
pub async fn a_peer_set_again_has_only_what_the_last_plan_says<H: OverlayHarness>(h: &mut H) {
    h.backend().ensure_device(&device_plan(DEVICE, 51871)).await.expect("a device");
    set(h, &PeerPlan { keepalive: NonZeroU16::new(25), ..peer(2, &["10.77.8.0/26", "10.77.9.0/26"]) }).await;
    set(h, &peer(2, &["10.77.9.0/26", "10.77.10.0/26"])).await;
    let seen = observed_peer(h, 2).await;
    assert_eq!(sorted(seen.allowed_ips), [net("10.77.9.0/26"), net("10.77.10.0/26")]);
    assert_eq!(seen.keepalive, None);
}

/// A range has one owner: the peer that was given it last.
pub async fn an_allowed_ip_moves_to_the_peer_that_claims_it<H: OverlayHarness>(h: &mut H) {
    h.backend().ensure_device(&device_plan(DEVICE, 51871)).await.expect("a device");
    set(h, &peer(2, &["10.77.8.0/26", "10.77.9.0/26"])).await;
    set(h, &peer(3, &["10.77.9.0/26"])).await;
    assert_eq!(observed_peer(h, 2).await.allowed_ips, [net("10.77.8.0/26")]);
    assert_eq!(observed_peer(h, 3).await.allowed_ips, [net("10.77.9.0/26")]);
}

/// Within one batch the order counts.
pub async fn changes_apply_in_order<H: OverlayHarness>(h: &mut H) {
    h.backend().ensure_device(&device_plan(DEVICE, 51871)).await.expect("a device");
    let changes = [
        PeerChange::Set(peer(2, &["10.77.8.0/26"])),
        PeerChange::Remove(public(2)),
        PeerChange::Set(peer(3, &["10.77.8.0/26"])),
        PeerChange::Set(peer(4, &["10.77.8.0/26"])),
    ];
    h.backend().change_peers(&link(DEVICE), &changes).await.expect("a batch");
    assert_eq!(observed(h, DEVICE).await.peers.len(), 2);
    assert!(observed_peer(h, 3).await.allowed_ips.is_empty());
    assert_eq!(observed_peer(h, 4).await.allowed_ips, [net("10.77.8.0/26")]);
}

/// All or none: a device cannot be its own peer, and a batch that says so changes nothing.
pub async fn a_refused_batch_changes_no_peer<H: OverlayHarness>(h: &mut H) {
    h.backend().ensure_device(&device_plan(DEVICE, 51871)).await.expect("a device");
    set(h, &peer(2, &["10.77.8.0/26"])).await;
    let before = observed(h, DEVICE).await;
    let batch = [PeerChange::Remove(public(2)), PeerChange::Set(peer(1, &[])), PeerChange::Set(peer(3, &[]))];
    assert_code(h.backend().change_peers(&link(DEVICE), &batch).await, &["invalid_plan"]);
    assert_eq!(observed(h, DEVICE).await, before);
}

/// Removing a peer twice, or one that never was, succeeds.
pub async fn removing_an_unknown_peer_succeeds<H: OverlayHarness>(h: &mut H) {
    h.backend().ensure_device(&device_plan(DEVICE, 51871)).await.expect("a device");
    set(h, &peer(2, &["10.77.8.0/26"])).await;
    for _ in 0..2 {
        let remove = [PeerChange::Remove(public(2))];
        h.backend().change_peers(&link(DEVICE), &remove).await.expect("removal");
        assert!(observed(h, DEVICE).await.peers.is_empty());
    }
}

/// A new peer without an endpoint has none until it speaks.
pub async fn a_new_peer_has_no_endpoint_until_it_speaks<H: OverlayHarness>(h: &mut H) {
    let info = h.backend().ensure_device(&device_plan(DEVICE, 51871)).await.expect("a device");
    set(h, &peer(2, &["10.77.8.0/26"])).await;
    assert_eq!(observed_peer(h, 2).await.endpoint, None);
    let from = h.handshake_from(&info, &private(2), Ipv4Addr::LOCALHOST).await;
    assert_eq!(observed_peer(h, 2).await.endpoint, Some(from));
}

/// Neither setting the peer again nor making the device again forgets where the peer roamed to.
pub async fn re_applying_keeps_what_roaming_taught<H: OverlayHarness>(h: &mut H) {
    let plan = device_plan(DEVICE, 51871);
    let info = h.backend().ensure_device(&plan).await.expect("a device");
    let first = PeerEndpoint::Set("127.0.0.1:9".parse().expect("an address"));
    set(h, &PeerPlan { endpoint: first, ..peer(2, &["10.77.8.0/26"]) }).await;
    let roamed = h.handshake_from(&info, &private(2), Ipv4Addr::new(127, 0, 0, 2)).await;
    set(h, &peer(2, &["10.77.8.0/26", "10.77.9.0/26"])).await;
    h.backend().ensure_device(&plan).await.expect("the same device");
    let seen = observed_peer(h, 2).await;
    assert_eq!(seen.endpoint, Some(roamed));
    assert!(seen.last_handshake.is_some(), "the session is still there");
}

/// An endpoint that is set replaces the one that was learned.
pub async fn a_set_endpoint_replaces_the_learned_one<H: OverlayHarness>(h: &mut H) {
    let info = h.backend().ensure_device(&device_plan(DEVICE, 51871)).await.expect("a device");
    set(h, &peer(2, &["10.77.8.0/26"])).await;
    h.handshake_from(&info, &private(2), Ipv4Addr::LOCALHOST).await;
    let elsewhere: SocketAddr = "127.0.0.9:9999".parse().expect("an address");
    set(h, &PeerPlan { endpoint: PeerEndpoint::Set(elsewhere), ..peer(2, &["10.77.8.0/26"]) }).await;
    assert_eq!(observed_peer(h, 2).await.endpoint, Some(elsewhere));
}

/// The time of a handshake is wall-clock time, and its bytes are counted.
pub async fn a_handshake_is_told_in_wall_clock_time<H: OverlayHarness>(h: &mut H) {
    let info = h.backend().ensure_device(&device_plan(DEVICE, 51871)).await.expect("a device");
    set(h, &peer(2, &["10.77.8.0/26"])).await;
    let before = SystemTime::now() - Duration::from_secs(1);
    h.handshake_from(&info, &private(2), Ipv4Addr::LOCALHOST).await;
    let seen = observed_peer(h, 2).await;
    let at = seen.last_handshake.expect("a handshake");
    assert!(at >= before && at <= SystemTime::now(), "{at:?} is not now");
    assert!(seen.rx_bytes >= 148 && seen.tx_bytes >= 92, "{seen:?}");
}

/// Hundreds of peers in one batch are set, listed and removed.
pub async fn many_peers_are_set_and_listed<H: OverlayHarness>(h: &mut H) {
    const PEERS: u16 = 500;
    h.backend().ensure_device(&device_plan(DEVICE, 51871)).await.expect("a device");
    let plans: Vec<PeerPlan> = (0..PEERS).map(numbered_peer).collect();
    let changes: Vec<PeerChange> = plans.iter().cloned().map(PeerChange::Set).collect();
    h.backend().change_peers(&link(DEVICE), &changes).await.expect("many peers");
    let seen = observed(h, DEVICE).await;
    assert_eq!(seen.peers.len(), usize::from(PEERS));
    for plan in &plans {
        let peer = seen.peers.iter().find(|peer| peer.public_key == plan.public_key).expect("every peer is listed");
        assert_eq!(peer.allowed_ips, plan.allowed_ips);
    }
    let changes: Vec<PeerChange> = plans.iter().map(|plan| PeerChange::Remove(plan.public_key)).collect();
    h.backend().change_peers(&link(DEVICE), &changes).await.expect("removal");
    assert!(observed(h, DEVICE).await.peers.is_empty());
}

/// Wherever a call is dropped, the same call afterwards does all of it, and removal leaves nothing.
pub async fn a_dropped_call_does_not_spoil_the_next<H: OverlayHarness>(h: &mut H) {
    let before = h.host().await;
    let plan = device_plan(DEVICE, 51871);
    let changes = [PeerChange::Set(peer(2, &["10.77.8.0/26"])), PeerChange::Set(peer(3, &["10.77.9.0/26"]))];
    for polls in 1..12 {
        poll_at_most(polls, h.backend().ensure_device(&plan)).await;
        h.backend().ensure_device(&plan).await.expect("the device after a dropped call");
        poll_at_most(polls, h.backend().change_peers(&plan.name, &changes)).await;
        let peers = observed(h, DEVICE).await.peers.len();
        assert!(peers == 0 || peers == 2, "a dropped batch is applied as a whole or not at all, not {peers} of 2");
        h.backend().change_peers(&plan.name, &changes).await.expect("the peers after a dropped call");
        assert_eq!(observed(h, DEVICE).await.peers.len(), 2);
        poll_at_most(polls, h.backend().remove_device(&plan.name)).await;
        h.backend().remove_device(&plan.name).await.expect("removal after a dropped call");
        assert_same_host(&before, &h.host().await, "a dropped and repeated removal");
    }
}

/// A device whose making was dropped is removed by its name.
pub async fn a_half_made_device_can_be_removed<H: OverlayHarness>(h: &mut H) {
    let before = h.host().await;
    let plan = device_plan(DEVICE, 51871);
    for polls in 1..12 {
        poll_at_most(polls, h.backend().ensure_device(&plan)).await;
        h.backend().remove_device(&plan.name).await.expect("removal");
        assert_same_host(&before, &h.host().await, "removing a half-made device");
    }
}

/// A new process makes the device as planned, whatever the old one left.
pub async fn a_restarted_backend_makes_the_same_device<H: OverlayHarness>(h: &mut H) {
    let plan = device_plan(DEVICE, 51871);
    let first = h.backend().ensure_device(&plan).await.expect("a device");
    set(h, &peer(2, &["10.77.8.0/26"])).await;
    h.restart().await;
    assert_eq!(h.backend().ensure_device(&plan).await.expect("the device again"), first);
    set(h, &peer(2, &["10.77.8.0/26"])).await;
    assert_eq!(observed(h, DEVICE).await.peers.len(), 1);
}

/// A new process removes by name what the old one left.
pub async fn a_restarted_backend_removes_without_memory<H: OverlayHarness>(h: &mut H) {
    let before = h.host().await;
    h.backend().ensure_device(&device_plan(DEVICE, 51871)).await.expect("a device");
    h.restart().await;
    h.backend().remove_device(&link(DEVICE)).await.expect("removal");
    assert_same_host(&before, &h.host().await, "removal by a new process");
}

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
    found.peers.sort_by_key(|peer| peer.public_key);
    found.peers.iter_mut().for_each(|peer| peer.allowed_ips.sort());
    found
}

async fn observed_peer<H: OverlayHarness>(h: &H, seed: u8) -> PeerStatus {
    let peers = observed(h, DEVICE).await.peers;
    peers.into_iter().find(|peer| peer.public_key == public(seed)).expect("the peer is observed")
}

fn sorted(mut ranges: Vec<IpNet>) -> Vec<IpNet> {
    ranges.sort();
    ranges
}
