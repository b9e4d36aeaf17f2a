//! Fences around the members of isolation networks, and published ports.

use overlayd_core::contract::{FencePlan, Inbound, PortProtocol};

use super::*;

/// Members reach each other and what their plan says, and no one else in the overlay.
pub async fn a_fence_keeps_members_among_themselves<H: AttachHarness>(h: &mut H) {
    let [one, two, three] = residents(h).await;
    fenced(h, &one, 2, "red").await;
    fenced(h, &two, 3, "red").await;
    for (from, to) in [(&one, 3), (&two, 2), (&one, 1)] {
        assert!(h.reaches(from, address(to).addr()).await, "{from:?} does not reach {}", address(to));
    }
    for member in [&one, &two] {
        assert!(!h.reaches(member, address(4).addr()).await, "{member:?} reaches a stranger");
    }
    assert!(h.reaches(&three, address(2).addr()).await, "who is no member may call one");
}

/// Where only members may call, no other may.
pub async fn a_strict_fence_keeps_others_out<H: AttachHarness>(h: &mut H) {
    let [one, two, three] = residents(h).await;
    for (container, number) in [(&one, 2), (&two, 3)] {
        let strict = FencePlan { inbound: Inbound::MembersOnly, ..fence("red") };
        let plan = AttachPlan { fence: Some(strict), ..plan(container, number) };
        h.backend().attach(&plan).await.expect("a fence");
    }
    assert!(h.reaches(&two, address(2).addr()).await && h.reaches(&one, address(1).addr()).await);
    assert!(!h.reaches(&three, address(2).addr()).await, "a stranger calls a member");
}

/// Two networks share a bridge, and nothing else.
pub async fn members_of_two_isolation_networks_do_not_reach_each_other<H: AttachHarness>(h: &mut H) {
    let [one, two, _] = residents(h).await;
    fenced(h, &one, 2, "red").await;
    fenced(h, &two, 3, "blue").await;
    assert!(!h.reaches(&one, address(3).addr()).await && !h.reaches(&two, address(2).addr()).await);
    assert!(h.reaches(&one, address(1).addr()).await && h.reaches(&two, address(1).addr()).await);
}

/// What the plan grants is reached, although it is no member.
pub async fn a_member_reaches_what_its_fence_grants<H: AttachHarness>(h: &mut H) {
    let [one, ..] = residents(h).await;
    let mut granting = fence("red");
    granting.reachable.push(IpNet::from(address(4).addr()));
    let plan = AttachPlan { fence: Some(granting), ..plan(&one, 2) };
    h.backend().attach(&plan).await.expect("a fence");
    assert!(h.reaches(&one, address(4).addr()).await);
    assert!(!h.reaches(&one, address(3).addr()).await);
}

/// The same plan again changes neither reply nor host.
pub async fn a_fence_put_up_twice_changes_nothing<H: AttachHarness>(h: &mut H) {
    let [one, ..] = residents(h).await;
    let first = fenced(h, &one, 2, "red").await;
    let before = h.host().await;
    assert_eq!(fenced(h, &one, 2, "red").await, first);
    assert_same_host(&before, &h.host().await, "a fence that was there");
}

/// A plan without it takes it down, and leaves nothing of it.
pub async fn a_fence_can_be_taken_down<H: AttachHarness>(h: &mut H) {
    let [one, ..] = residents(h).await;
    let before = h.host().await;
    fenced(h, &one, 2, "red").await;
    assert_ne!(before, h.host().await, "the harness does not see the fence");
    assert!(!h.reaches(&one, address(4).addr()).await);
    h.backend().attach(&plan(&one, 2)).await.expect("no fence");
    assert_same_host(&before, &h.host().await, "a fence that was taken down");
    assert!(h.reaches(&one, address(4).addr()).await);
}

/// Who comes to a member's address after it is no member.
pub async fn a_detached_member_is_no_member_any_more<H: AttachHarness>(h: &mut H) {
    let [one, two, three] = residents(h).await;
    fenced(h, &one, 2, "red").await;
    fenced(h, &two, 3, "red").await;
    h.backend().detach(&one.id).await.expect("detach");
    h.backend().detach(&three.id).await.expect("detach");
    h.backend().attach(&plan(&three, 2)).await.expect("the address of a member that left");
    assert!(!h.reaches(&two, address(2).addr()).await, "a member reaches who took another's address");
    assert!(h.reaches(&three, address(3).addr()).await);
}

/// A new process of the daemon keeps the fences of the old one before it is told of them, and knows who is a member.
pub async fn a_restarted_backend_keeps_the_fences<H: AttachHarness>(h: &mut H) {
    let [one, two, _] = residents(h).await;
    fenced(h, &one, 2, "red").await;
    h.restart().await;
    assert!(!h.reaches(&one, address(4).addr()).await, "before the first call");
    h.backend().ensure_network(&web()).await.expect("the same network");
    assert!(!h.reaches(&one, address(4).addr()).await, "after the first call");
    fenced(h, &two, 3, "red").await;
    assert!(h.reaches(&two, address(2).addr()).await && h.reaches(&one, address(3).addr()).await);
    h.backend().detach(&one.id).await.expect("detach");
    assert!(!h.reaches(&two, address(4).addr()).await);
}

/// A peer of the overlay has no interface here, but a fence.
pub async fn an_address_is_fenced_observed_and_let_go<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let before = h.host().await;
    let id = AttachmentId::Edge("laptop".into());
    let target = Target::Address(net("10.77.200.9/32").addr());
    let plan = AttachPlan {
        id: id.clone(),
        target,
        known: None,
        service: None,
        overlay: None,
        resolver: None,
        fence: Some(fence("edge:laptop")),
        ports: vec![],
    };
    let first = h.backend().attach(&plan).await.expect("a fence");
    assert_eq!(h.backend().attach(&plan).await.expect("the same fence"), first);
    let seen = h.backend().observe().await.expect("a view").attachments;
    assert!(seen.iter().any(|one| one.id == id && one.alive), "{seen:?}");
    h.backend().detach(&id).await.expect("detach");
    assert_same_host(&before, &h.host().await, "the fence of an address");
}

/// A port of the host leads to the port of the container that was named, each of a range to its own.
pub async fn published_ports_lead_to_their_container<H: AttachHarness>(h: &mut H) {
    let [one, two, _] = residents(h).await;
    let plan = AttachPlan { ports: vec![port((8000, 8003), 80)], ..plan(&one, 2) };
    h.backend().attach(&plan).await.expect("ports");
    for (outside, inside) in [(8000, 80), (8003, 83)] {
        assert!(h.is_published(&one, &port((outside, outside), inside)).await, "{outside}");
        assert!(!h.is_published(&two, &port((outside, outside), inside)).await, "{outside} leads elsewhere");
    }
    assert!(!h.is_published(&one, &port((8004, 8004), 84)).await, "beyond the range");
}

/// A plan without them withdraws them, and leaves nothing of them.
pub async fn withdrawn_ports_lead_nowhere<H: AttachHarness>(h: &mut H) {
    let [one, ..] = residents(h).await;
    let before = h.host().await;
    let with_ports = AttachPlan { ports: vec![port((8000, 8000), 80)], ..plan(&one, 2) };
    let first = h.backend().attach(&with_ports).await.expect("a port");
    let published = h.host().await;
    assert_ne!(before, published, "the harness does not see the port");
    assert_eq!(h.backend().attach(&with_ports).await.expect("the same port"), first);
    assert_same_host(&published, &h.host().await, "a port that was published already");
    h.backend().attach(&plan(&one, 2)).await.expect("no port");
    assert_same_host(&before, &h.host().await, "a port that was withdrawn");
    assert!(!h.is_published(&one, &port((8000, 8000), 80)).await);
}

/// One port leads to one container; the second attach is refused whole.
pub async fn a_port_that_is_taken_is_a_conflict<H: AttachHarness>(h: &mut H) {
    let [one, two, _] = residents(h).await;
    let ports = vec![port((8000, 8003), 80)];
    h.backend().attach(&AttachPlan { ports, ..plan(&one, 2) }).await.expect("ports");
    let before = h.host().await;
    let taken = AttachPlan { ports: vec![port((8003, 8003), 80)], ..plan(&two, 3) };
    assert_code(h.backend().attach(&taken).await, &["conflict"]);
    assert_same_host(&before, &h.host().await, "a refused port");
    h.backend().detach(&one.id).await.expect("detach");
    h.backend().attach(&taken).await.expect("the port is free");
    assert!(h.is_published(&two, &port((8003, 8003), 80)).await);
}

/// Three containers on one network, at the addresses 2 to 4.
async fn residents<H: AttachHarness>(h: &mut H) -> [TestContainer; 3] {
    h.backend().ensure_network(&web()).await.expect("a network");
    let containers = [h.start_container().await, h.start_container().await, h.start_container().await];
    for (number, container) in (2..).zip(&containers) {
        h.backend().attach(&plan(container, number)).await.expect("an attachment");
    }
    containers
}

async fn fenced<H: AttachHarness>(h: &H, container: &TestContainer, number: u8, network: &str) -> Attached {
    let plan = AttachPlan { fence: Some(fence(network)), ..plan(container, number) };
    h.backend().attach(&plan).await.expect("a fence")
}

/// The gateway is within reach, the rest of the overlay is not.
fn fence(network: &str) -> FencePlan {
    FencePlan {
        network: network.into(),
        reachable: vec![IpNet::from(address(1).addr())],
        overlay: vec![net("10.77.0.0/16")],
        inbound: Inbound::Anyone,
    }
}

fn port(host_ports: (u16, u16), container_port: u16) -> PortPlan {
    PortPlan { protocol: PortProtocol::Tcp, host_ip: None, host_ports, container_port }
}
