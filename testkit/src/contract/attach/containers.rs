//! Containers: plugged in, unplugged, refused.

use super::*;

/// Name, address, MTU and default route are as planned.
pub async fn a_container_is_plugged_in_as_planned<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let container = h.start_container().await;
    assert!(h.inside(&container).await.is_empty(), "the container starts with nothing in it");
    let attached = h.backend().attach(&plan(&container, 2)).await.expect("an attachment");
    assert_eq!(h.inside(&container).await, [planned(2)]);
    let seen = h.backend().observe().await.expect("a view");
    let expected = ObservedAttachment { id: container.id, namespace: attached.namespace, alive: true };
    assert_eq!((seen.attachments, seen.networks[0].members), (vec![expected], 1));
}

/// The second attach changes neither reply, host nor container.
pub async fn attaching_twice_changes_nothing<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let container = h.start_container().await;
    let first = h.backend().attach(&plan(&container, 2)).await.expect("an attachment");
    let before = h.host().await;
    let again = AttachPlan { known: Some(first.identity.clone()), ..plan(&container, 2) };
    assert_eq!(h.backend().attach(&again).await.expect("the same attachment"), first);
    assert_same_host(&before, &h.host().await, "the second attach");
    assert_eq!(h.inside(&container).await, [planned(2)]);
}

/// Packets flow: to the gateway, and between members.
pub async fn members_reach_the_gateway_and_each_other<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let (one, two) = (h.start_container().await, h.start_container().await);
    h.backend().attach(&plan(&one, 2)).await.expect("an attachment");
    h.backend().attach(&plan(&two, 3)).await.expect("an attachment");
    for (from, to) in [(&one, 1), (&two, 1), (&one, 3), (&two, 2)] {
        assert!(h.reaches(from, address(to).addr()).await, "{from:?} does not reach {}", address(to));
    }
}

/// A network that is ensured again, with another MTU or another link, does not lose its members.
pub async fn changing_a_network_keeps_its_members<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let container = h.start_container().await;
    h.backend().attach(&plan(&container, 2)).await.expect("an attachment");
    h.backend().ensure_network(&NetworkPlan { mtu: 1480, ..web() }).await.expect("the changed network");
    assert!(h.reaches(&container, address(1).addr()).await);
    assert_eq!(h.backend().observe().await.expect("a view").networks[0].members, 1);
}

/// After detach the host is as before the attach, and the container has nothing.
pub async fn a_detached_container_leaves_nothing<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let container = h.start_container().await;
    let before = h.host().await;
    h.backend().attach(&plan(&container, 2)).await.expect("an attachment");
    assert_ne!(before, h.host().await, "the harness does not see the attachment");
    h.backend().detach(&container.id).await.expect("detach");
    assert_same_host(&before, &h.host().await, "detach");
    assert!(h.inside(&container).await.is_empty());
    h.backend().attach(&plan(&container, 2)).await.expect("the same address again");
}

/// Detaching twice, or what never was attached, succeeds.
pub async fn detaching_what_is_absent_succeeds<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let container = h.start_container().await;
    h.backend().detach(&container.id).await.expect("nothing to do");
    h.backend().attach(&plan(&container, 2)).await.expect("an attachment");
    for _ in 0..2 {
        h.backend().detach(&container.id).await.expect("detach");
    }
}

/// The container may end first.
pub async fn a_container_that_is_gone_can_be_detached<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let before = h.host().await;
    let container = h.start_container().await;
    h.backend().attach(&plan(&container, 2)).await.expect("an attachment");
    h.stop_container(&container).await;
    h.backend().detach(&container.id).await.expect("detach");
    assert_same_host(&before, &h.host().await, "detaching a container that is gone");
}

/// A container that is gone is named as the reason.
pub async fn attaching_a_container_that_is_gone_leaves_nothing<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let before = h.host().await;
    let container = h.start_container().await;
    h.stop_container(&container).await;
    assert_code(h.backend().attach(&plan(&container, 2)).await, &["target_gone"]);
    assert_same_host(&before, &h.host().await, "a refused attach");
}

/// A network must be made before it is joined.
pub async fn attaching_to_an_absent_network_leaves_nothing<H: AttachHarness>(h: &mut H) {
    let container = h.start_container().await;
    let before = h.host().await;
    assert_code(h.backend().attach(&plan(&container, 2)).await, &["not_found"]);
    assert_same_host(&before, &h.host().await, "a refused attach");
    assert!(h.inside(&container).await.is_empty());
}

/// When the second leg cannot be made, the first one is not made either.
pub async fn an_attach_with_an_impossible_second_leg_leaves_nothing<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let container = h.start_container().await;
    let before = h.host().await;
    let impossible = OverlayLeg {
        address: net("10.77.4.2/32").addr(),
        range: net("10.77.0.0/16"),
        source: net("fd77::1/128").addr(),
        device: link("zl-ct-g"),
        mtu: MTU,
    };
    let plan = AttachPlan { overlay: Some(impossible), ..plan(&container, 2) };
    assert_code(h.backend().attach(&plan).await, &["invalid_plan", "unsupported"]);
    assert_same_host(&before, &h.host().await, "an attach that failed at its second leg");
    assert!(h.inside(&container).await.is_empty());
}

/// A recycled handle is recognised by the identity that the first attach returned.
pub async fn another_container_under_a_known_handle_is_refused<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let (one, two) = (h.start_container().await, h.start_container().await);
    let first = h.backend().attach(&plan(&one, 2)).await.expect("an attachment");
    let before = h.host().await;
    let confused = AttachPlan { known: Some(first.identity), ..plan(&two, 3) };
    assert_code(h.backend().attach(&confused).await, &["target_changed"]);
    assert_same_host(&before, &h.host().await, "a refused attach");
    assert!(h.inside(&two).await.is_empty());
}

/// What the platform does not have is said, and nothing pretended.
pub async fn a_target_of_another_platform_is_unsupported<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let before = h.host().await;
    assert_code(h.backend().attach(&plan(&h.alien(), 2)).await, &["unsupported"]);
    assert_same_host(&before, &h.host().await, "an unsupported attach");
}

/// The daemon's own namespace is no container.
pub async fn what_must_never_be_plugged_in_is_refused<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let Some(forbidden) = h.forbidden() else { return };
    let before = h.host().await;
    assert_code(h.backend().attach(&plan(&forbidden, 2)).await, &["refused"]);
    assert_same_host(&before, &h.host().await, "a refused attach");
}

/// Calls for different containers may arrive at once.
pub async fn many_containers_attach_at_once<H: AttachHarness>(h: &mut H) {
    const CONTAINERS: u8 = 16;
    h.backend().ensure_network(&web()).await.expect("a network");
    let before = h.host().await;
    let mut plans = Vec::new();
    for number in 0..CONTAINERS {
        let container = h.start_container().await;
        plans.push((plan(&container, number + 2), container));
    }
    let backend = h.backend();
    for result in all(plans.iter().map(|(plan, _)| backend.attach(plan))).await {
        result.expect("an attachment");
    }
    for (number, (_, container)) in plans.iter().enumerate() {
        assert_eq!(h.inside(container).await, [planned(u8::try_from(number).expect("few containers") + 2)]);
        assert!(h.reaches(container, address(1).addr()).await);
    }
    for result in all(plans.iter().map(|(plan, _)| backend.detach(&plan.id))).await {
        result.expect("detach");
    }
    assert_same_host(&before, &h.host().await, "many detaches at once");
}
