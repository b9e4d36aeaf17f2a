//! Peers: set, moved, removed, and what they learn by roaming.

use super::*;

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
