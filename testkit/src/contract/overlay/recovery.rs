//! Calls that were dropped, and processes that were killed.

use super::*;

/// A port for each round: a program that is started at this moment may hold the socket of a round that is over.
fn port_of(round: usize) -> u16 {
    51900 + round as u16
}

/// Wherever a call is dropped, the same call afterwards does all of it, and removal leaves nothing.
pub async fn a_dropped_call_does_not_spoil_the_next<H: OverlayHarness>(h: &mut H) {
    let before = h.host().await;
    let changes = [PeerChange::Set(peer(2, &["10.77.8.0/26"])), PeerChange::Set(peer(3, &["10.77.9.0/26"]))];
    for polls in 1..12 {
        let plan = device_plan(DEVICE, port_of(polls));
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
    for polls in 1..12 {
        let plan = device_plan(DEVICE, port_of(polls));
        poll_at_most(polls, h.backend().ensure_device(&plan)).await;
        h.backend().remove_device(&plan.name).await.expect("removal");
        assert_same_host(&before, &h.host().await, "removing a half-made device");
    }
}

/// A new process makes the device as planned, in every state that the old one can leave.
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
