//! Devices: made, changed, removed, and left alone when they are not ours.

use super::*;

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
    h.backend().remove_device(&link(DEVICE)).await.expect("nothing to remove");
    assert_same_host(&before, &h.host().await, "meeting a foreign link");
}

/// Two daemons on one host: neither sees, takes over nor removes the other's device.
pub async fn two_instances_do_not_touch_each_other<H: OverlayHarness>(h: &mut H) {
    h.neighbour().ensure_device(&device_plan("zl-nb-n1-g", 51872)).await.expect("the neighbour's device");
    let before = h.host().await;
    assert!(h.backend().observe().await.expect("a view").is_empty());
    h.backend().remove_device(&link("zl-nb-n1-g")).await.expect("nothing to remove");
    assert_code(h.backend().ensure_device(&device_plan("zl-nb-n1-g", 51873)).await, &["conflict"]);
    let change = [PeerChange::Set(peer(3, &[]))];
    assert_code(h.backend().change_peers(&link("zl-nb-n1-g"), &change).await, &["not_found", "conflict"]);
    assert_same_host(&before, &h.host().await, "meeting another instance's device");
}
