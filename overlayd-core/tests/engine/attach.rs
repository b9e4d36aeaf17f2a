use overlayd_core::{
    contract::{self, Target},
    protocol::{AttachContainer, AttachHandle, Request, Response},
};
use overlayd_testkit::{
    fake::{CallStage, FakeAttacher, FaultReaction},
    requests::{self, service},
};

use crate::node::{Node, attach, detach};

fn attach_with(pid: u32, change: impl FnOnce(&mut AttachContainer)) -> Request {
    let mut request = requests::attach(requests::process(pid), "web");
    change(&mut request);
    Request::AttachContainer(request)
}

fn ip_of(reply: &Response) -> String {
    match reply {
        Response::Attached(attached) => attached.ip.to_string(),
        Response::Ip { ip } => ip.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_first_container_gets_the_second_host_of_the_block() {
    let node = Node::ready().await;
    node.start_process(7);
    assert_eq!(node.attach(7).await.to_string(), "10.77.78.194");
    let inside = node.attacher.inside(&Target::Process(7));
    assert_eq!(inside.len(), 1);
    assert!(node.attacher.reaches(&Target::Process(7), "10.77.78.193".parse().unwrap()));
}

#[tokio::test]
async fn join_global_adds_a_leg_with_an_address_of_the_slice() {
    let node = Node::ready().await;
    node.start_process(7);
    node.ok(attach_with(7, |request| request.join_global = true)).await;
    let inside = format!("{:?}", node.attacher.inside(&Target::Process(7)));
    assert!(inside.contains("eth1") && inside.contains("10.77.4.2/32"), "{inside}");
}

#[tokio::test]
async fn attaching_an_attached_container_returns_its_address() {
    let node = Node::ready().await;
    node.start_process(7);
    let first = node.attach(7).await;
    let before = node.host();
    assert_eq!(node.attach(7).await, first);
    assert_eq!(node.host(), before);
}

#[tokio::test]
async fn a_container_of_another_service_has_to_be_detached_first() {
    let node = Node::ready().await;
    node.ok(service("db")).await;
    node.start_process(7);
    node.attach(7).await;
    let message = node.refused(attach("db", 7)).await;
    assert!(message.contains("attached to service web"), "{message}");
    node.ok(detach(7)).await;
    node.ok(attach("db", 7)).await;
}

#[tokio::test]
async fn a_refused_attach_leaves_no_lease_and_no_link() {
    let node = Node::ready().await;
    node.start_process(7);
    node.start_process(8);
    let before = node.host();
    node.attacher.script().once(
        CallStage::HalfWay,
        |call| call.verb == "attach",
        FaultReaction::fail("no buffer space"),
    );
    let message = node.refused(attach_with(7, |request| request.join_global = true)).await;
    assert!(message.contains("pid 7") && message.contains("no buffer space"), "{message}");
    assert_eq!(node.host(), before);
    assert_eq!(node.attach(8).await.to_string(), "10.77.78.194", "the address is free again");
}

#[tokio::test]
async fn an_attach_that_hangs_ends_at_its_deadline_and_leaves_nothing() {
    let node = Node::ready().await;
    node.start_process(7);
    let before = node.host();
    node.attacher.script().once(CallStage::HalfWay, |call| call.verb == "attach", FaultReaction::Hang);
    let message = node.refused(attach("web", 7)).await;
    assert!(message.contains("did not end within"), "{message}");
    assert_eq!(node.host(), before);
    assert_eq!(node.attach(7).await.to_string(), "10.77.78.194");
}

#[tokio::test]
async fn a_lease_stays_while_a_failed_attach_cannot_be_cleaned_up() {
    let node = Node::ready().await;
    node.start_process(7);
    node.start_process(8);
    node.attacher.script().once(CallStage::HalfWay, |call| call.verb == "attach", FaultReaction::Hang);
    node.attacher.script().once(
        CallStage::Entry,
        |call| call.verb == "detach",
        FaultReaction::fail("device or resource busy"),
    );
    node.refused(attach("web", 7)).await;
    assert_eq!(node.attach(8).await.to_string(), "10.77.78.195", "the first address may still be in use");
    node.ok(detach(7)).await;
}

#[tokio::test]
async fn a_dead_process_and_one_of_the_daemons_own_namespace_are_refused() {
    let node = Node::ready().await;
    for pid in [4242, FakeAttacher::DAEMON_PID] {
        let message = node.refused(attach("web", pid)).await;
        assert!(message.contains(&pid.to_string()), "{message}");
    }
}

#[tokio::test]
async fn a_recycled_pid_is_another_container_and_the_old_lease_rests() {
    let node = Node::ready().await;
    node.start_process(7);
    let old = node.attach(7).await;
    node.attacher.stop(&Target::Process(7));
    node.start_process(7);
    let new = node.attach(7).await;
    assert_ne!(new, old);
    assert_eq!(node.status().await.services[0].attachments, 1);
}

#[tokio::test]
async fn a_detached_address_rests_before_it_is_leased_again() {
    let node = Node::ready().await;
    node.start_process(7);
    node.start_process(8);
    let first = node.attach(7).await;
    node.ok(detach(7)).await;
    node.ok(detach(7)).await;
    assert_ne!(node.attach(8).await, first);
}

#[tokio::test]
async fn a_block_leases_61_addresses_and_then_says_so() {
    let node = Node::ready().await;
    for pid in 100..161 {
        node.start_process(pid);
        node.attach(pid).await;
    }
    node.start_process(161);
    let message = node.refused(attach("web", 161)).await;
    assert!(message.contains("10.77.78.192/26") && message.contains("exhausted"), "{message}");
    node.ok(detach(130)).await;
    assert_eq!(node.attach(161).await.to_string(), "10.77.78.224", "a resting address, under pressure");
}

#[tokio::test]
async fn the_last_ephemeral_container_takes_its_service_along() {
    let node = Node::ready().await;
    for pid in [7, 8] {
        node.start_process(pid);
        node.ok(attach_with(pid, |request| request.ephemeral = true)).await;
    }
    node.ok(detach(7)).await;
    assert_eq!(node.status().await.service_count, 1);
    node.ok(detach(8)).await;
    assert_eq!(node.status().await.service_count, 0);
}

#[tokio::test]
async fn an_ephemeral_container_never_takes_a_service_along_that_a_lasting_one_used() {
    let node = Node::ready().await;
    for pid in [7, 8] {
        node.start_process(pid);
    }
    node.attach(7).await;
    node.ok(attach_with(8, |request| request.ephemeral = true)).await;
    node.ok(detach(7)).await;
    node.ok(detach(8)).await;
    assert_eq!(node.status().await.service_count, 1);
}

#[tokio::test]
async fn a_member_of_an_isolation_network_is_fenced_from_its_first_packet_on() {
    let node = Node::ready().await;
    node.start_process(7);
    node.ok(attach_with(7, |request| request.isolation_network = Some("job-88".into()))).await;
    let host = format!("{:?}", node.host());
    assert!(host.contains("job-88") && host.contains("overlay: [10.77.0.0/16]"), "{host}");
    let again = attach_with(7, |request| request.isolation_network = Some("job-89".into()));
    let message = node.refused(again).await;
    assert!(message.contains("isolation network job-88"), "{message}");
}

#[tokio::test]
async fn a_fence_that_cannot_be_installed_fails_the_attach() {
    let node = Node::ready().await;
    node.start_process(7);
    let unsupported = || contract::Error::Unsupported { what: "a fence".into(), reason: "no nf_tables".into() };
    node.attacher.script().once(CallStage::Entry, |call| call.verb == "attach", FaultReaction::fail_with(unsupported));
    let message = node.refused(attach_with(7, |request| request.isolation_network = Some("job-88".into()))).await;
    assert!(message.contains("no nf_tables"), "{message}");
    assert!(node.attacher.inside(&Target::Process(7)).is_empty());
}

#[tokio::test]
async fn an_attach_without_its_service_says_what_to_call() {
    let node = Node::ready().await;
    node.start_process(7);
    let message = node.refused(attach("nope", 7)).await;
    assert!(message.contains("no service bridge for service nope; call setup_service_overlay() first"), "{message}");
}

#[tokio::test]
async fn allocated_addresses_are_never_those_of_containers() {
    let node = Node::ready().await;
    node.start_process(7);
    let allocate = || Request::AllocateIp { service: "web".into(), join_global: false };
    let allocated = ip_of(&node.ok(allocate()).await);
    let attached = node.attach(7).await;
    assert_ne!(allocated, attached.to_string());
    let message = node.refused(Request::ReleaseIp { ip: attached }).await;
    assert!(message.contains("detach"), "{message}");
    node.ok(Request::ReleaseIp { ip: allocated.parse().unwrap() }).await;
    node.ok(Request::ReleaseIp { ip: "192.0.2.1".parse().unwrap() }).await;
    let other = Request::AllocateIp { service: "unknown".into(), join_global: false };
    assert_eq!(ip_of(&node.ok(other).await), "10.77.4.2");
}

#[tokio::test]
async fn tearing_a_service_down_detaches_its_containers() {
    let node = Node::ready().await;
    node.start_process(7);
    node.attach(7).await;
    node.ok(Request::TeardownServiceOverlay { service: "web".into() }).await;
    node.ok(Request::TeardownServiceOverlay { service: "web".into() }).await;
    assert!(node.attacher.inside(&Target::Process(7)).is_empty());
    node.ok(detach(7)).await;
    node.ok(service("web")).await;
    node.attach(7).await;
}

#[tokio::test]
async fn a_namespace_is_attached_by_its_id() {
    let node = Node::ready().await;
    let target = Target::Namespace("/run/netns/c1".into());
    node.attacher.start(&target);
    let handle = AttachHandle::LinuxNetns { id: "c1".into(), path: "/run/netns/c1".into() };
    let reply = node.ok(attach_with(0, |request| request.handle = handle.clone())).await;
    assert_eq!(ip_of(&reply), "10.77.78.194");
    node.ok(Request::DetachContainer { handle }).await;
    assert!(node.attacher.inside(&target).is_empty());
}
