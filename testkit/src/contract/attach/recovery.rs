//! Calls that were dropped, processes that were restarted, containers that died.

use super::*;

/// Wherever an attach or a detach is dropped, the same call afterwards does all of it.
pub async fn a_dropped_attach_does_not_spoil_the_next<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let container = h.start_container().await;
    let before = h.host().await;
    for polls in 1..16 {
        poll_at_most(polls, h.backend().attach(&plan(&container, 2))).await;
        h.backend().attach(&plan(&container, 2)).await.expect("the attachment after a dropped call");
        assert_eq!(h.inside(&container).await, [planned(2)]);
        poll_at_most(polls, h.backend().detach(&container.id)).await;
        h.backend().detach(&container.id).await.expect("detach after a dropped call");
        assert_same_host(&before, &h.host().await, "a dropped and repeated detach");
        assert!(h.inside(&container).await.is_empty());
    }
}

/// An attachment whose making was dropped is taken away by its id, and observed while it is there.
pub async fn a_half_made_attachment_can_be_detached<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let container = h.start_container().await;
    let before = h.host().await;
    for polls in 1..16 {
        poll_at_most(polls, h.backend().attach(&plan(&container, 2))).await;
        let changed = h.host().await != before;
        let seen = h.backend().observe().await.expect("a view").attachments;
        assert!(!changed || !seen.is_empty(), "what a dropped attach left on the host is not observed");
        h.backend().detach(&container.id).await.expect("detach");
        assert_same_host(&before, &h.host().await, "detaching a half-made attachment");
        assert!(h.inside(&container).await.is_empty());
    }
}

/// Wherever the making or removal of a network is dropped, the same call afterwards does all of it.
pub async fn a_dropped_network_call_does_not_spoil_the_next<H: AttachHarness>(h: &mut H) {
    let before = h.host().await;
    for polls in 1..16 {
        poll_at_most(polls, h.backend().ensure_network(&web())).await;
        h.backend().ensure_network(&web()).await.expect("the network after a dropped call");
        let seen = h.backend().observe().await.expect("a view").networks;
        assert_eq!(seen[0].gateways, web().gateways);
        poll_at_most(polls, h.backend().remove_network(&web().name)).await;
        h.backend().remove_network(&web().name).await.expect("removal after a dropped call");
        assert_same_host(&before, &h.host().await, "a dropped and repeated removal");
        poll_at_most(polls, h.backend().ensure_network(&web())).await;
        h.backend().remove_network(&web().name).await.expect("removal of a half-made network");
        assert_same_host(&before, &h.host().await, "removing a half-made network");
    }
}

/// A new process finds what the old one made, by the mark, and removes it without memory.
pub async fn a_restarted_backend_sees_and_removes_what_is_ours<H: AttachHarness>(h: &mut H) {
    let before = h.host().await;
    let info = h.backend().ensure_network(&web()).await.expect("a network");
    let container = h.start_container().await;
    let attached = h.backend().attach(&plan(&container, 2)).await.expect("an attachment");
    h.restart().await;
    let seen = h.backend().observe().await.expect("a view");
    assert_eq!((&seen.networks[0].name, &seen.networks[0].guid), (&web().name, &info.guid));
    let expected = ObservedAttachment { id: container.id.clone(), namespace: attached.namespace.clone(), alive: true };
    assert_eq!(seen.attachments, [expected]);
    assert_eq!(h.backend().attach(&plan(&container, 2)).await.expect("the same attachment"), attached);
    h.backend().detach(&container.id).await.expect("detach");
    h.backend().remove_network(&web().name).await.expect("removal");
    assert_same_host(&before, &h.host().await, "removal by a new process");
}

/// Whether the container still exists is part of what is observed; on a host where its interfaces vanish with it, so may
/// the attachment.
pub async fn a_dead_container_is_observed_as_dead<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let container = h.start_container().await;
    h.backend().attach(&plan(&container, 2)).await.expect("an attachment");
    h.stop_container(&container).await;
    let seen = h.backend().observe().await.expect("a view").attachments;
    assert!(seen.iter().all(|attachment| !attachment.alive), "{seen:?}");
}
