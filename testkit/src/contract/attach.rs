//! The suite for [`Attacher`].

use std::net::IpAddr;

use async_trait::async_trait;
use ipnet::IpNet;
use overlayd_core::{
    contract::{
        AttachPlan, Attacher, AttachmentId, ContainerRoute, Egress, InterfacePlan, NetworkName, NetworkPlan,
        ObservedAttachment, Target, Uplink,
    },
    names::LinkName,
};

use super::{HostFacts, assert_code, assert_same_host, link, net, poll_at_most};

/// How the suite reaches a backend, its host and its containers.
#[async_trait]
pub trait AttachHarness: Send {
    /// The backend under test.
    fn backend(&self) -> &dyn Attacher;

    /// The backend of another daemon (another instance) on the same host.
    fn neighbour(&self) -> &dyn Attacher;

    /// Replaces [`Self::backend`] by that of a new process of the same daemon, after the old one was killed.
    async fn restart(&mut self);

    /// What is on the host, without what is inside of containers.
    async fn host(&self) -> HostFacts;

    /// Puts a network (on Linux a link of that name) on the host that nobody of us made.
    async fn put_foreign_network(&self, name: &NetworkName);

    /// Starts a container with a network namespace of its own and nothing in it.
    async fn start_container(&mut self) -> Container;

    /// Ends the container and waits until its network namespace is gone.
    async fn stop_container(&mut self, container: &Container);

    /// What the container has beside the loopback: its interfaces in the order of their names.
    async fn inside(&self, container: &Container) -> Vec<ContainerLink>;

    /// Whether the container gets an answer (to a ping) from this address.
    async fn reaches(&self, container: &Container, address: IpAddr) -> bool;

    /// A target that exists and must never be plugged in, where the platform has one (on Linux a process in the
    /// daemon's own network namespace).
    fn forbidden(&self) -> Option<Container>;

    /// A target of a kind that this platform does not have.
    fn alien(&self) -> Container;
}

/// A container, and how an attach names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The handle.
    pub id: AttachmentId,
    /// Where it is.
    pub target: Target,
}

/// An interface as the container sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerLink {
    /// Its name.
    pub name: LinkName,
    /// Its addresses of global scope, each with the prefix.
    pub addresses: Vec<IpNet>,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// The next hop of the default route by this interface, if there is one.
    pub default_gateway: Option<IpAddr>,
}

const WEB: &str = "zl-ct-web-b";
const MTU: u16 = 1420;

/// The network is observed with its gateway and without members.
pub async fn a_network_is_made_as_planned<H: AttachHarness>(h: &mut H) {
    let info = h.backend().ensure_network(&web()).await.expect("a network");
    let seen = h.backend().observe().await.expect("a view").networks;
    assert_eq!(seen.len(), 1);
    assert_eq!((&seen[0].name, &seen[0].guid, seen[0].members), (&web().name, &info.guid, 0));
    assert_eq!(seen[0].gateways, web().gateways);
}

/// The second call changes neither reply nor host.
pub async fn making_a_network_twice_changes_nothing<H: AttachHarness>(h: &mut H) {
    let first = h.backend().ensure_network(&web()).await.expect("a network");
    let before = h.host().await;
    assert_eq!(h.backend().ensure_network(&web()).await.expect("the same network"), first);
    assert_same_host(&before, &h.host().await, "the second ensure_network");
}

/// Removing what never was succeeds, and changes nothing.
pub async fn removing_an_absent_network_succeeds<H: AttachHarness>(h: &mut H) {
    let before = h.host().await;
    h.backend().remove_network(&web().name).await.expect("nothing to do");
    assert_same_host(&before, &h.host().await, "removing nothing");
}

/// After removal the host is as it was: links, addresses, routes, rules, sysctls.
pub async fn a_removed_network_leaves_nothing<H: AttachHarness>(h: &mut H) {
    let before = h.host().await;
    h.backend().ensure_network(&web()).await.expect("a network");
    h.backend().ensure_network(&database()).await.expect("another network");
    assert_ne!(before, h.host().await, "the harness does not see the networks");
    h.backend().remove_network(&web().name).await.expect("removal");
    h.backend().remove_network(&database().name).await.expect("removal");
    assert_same_host(&before, &h.host().await, "remove_network");
}

/// What is not ours keeps its name; ours is refused.
pub async fn a_foreign_network_is_a_conflict_and_stays<H: AttachHarness>(h: &mut H) {
    h.put_foreign_network(&web().name).await;
    let before = h.host().await;
    assert_code(h.backend().ensure_network(&web()).await, &["conflict"]);
    h.backend().remove_network(&web().name).await.expect("nothing of ours to remove");
    assert_same_host(&before, &h.host().await, "meeting a foreign network");
}

/// Two daemons on one host: neither sees, takes over nor removes what is the other's.
pub async fn two_instances_do_not_touch_each_other<H: AttachHarness>(h: &mut H) {
    let container = h.start_container().await;
    h.neighbour().ensure_network(&web()).await.expect("the neighbour's network");
    h.neighbour().attach(&plan(&container, 2)).await.expect("the neighbour's container");
    let before = h.host().await;
    let seen = h.backend().observe().await.expect("a view");
    assert!(seen.networks.is_empty() && seen.attachments.is_empty(), "{seen:?}");
    assert_code(h.backend().ensure_network(&web()).await, &["conflict"]);
    h.backend().remove_network(&web().name).await.expect("nothing of ours to remove");
    h.backend().detach(&container.id).await.expect("nothing of ours to detach");
    assert_same_host(&before, &h.host().await, "meeting another instance's network");
    assert_eq!(h.inside(&container).await.len(), 1);
}

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

/// When the second interface cannot be made, the first one goes too.
pub async fn an_attach_that_fails_half_way_leaves_nothing<H: AttachHarness>(h: &mut H) {
    h.backend().ensure_network(&web()).await.expect("a network");
    let container = h.start_container().await;
    let before = h.host().await;
    let mut plan = plan(&container, 2);
    let second = InterfacePlan {
        name: link("eth1"),
        host_name: host_name(&container, 'g'),
        address: net("10.77.9.2/26"),
        routes: Vec::new(),
        mtu: MTU,
        uplink: Uplink::Network(database().name),
    };
    plan.interfaces.push(second);
    assert_code(h.backend().attach(&plan).await, &["not_found", "unsupported"]);
    assert_same_host(&before, &h.host().await, "an attach that failed at its second interface");
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

/// Runs futures of one type at once on this task and returns their outputs in order.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *output = Some(value);
            }
        }
        match running.iter().all(|(_, output)| output.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

fn web() -> NetworkPlan {
    NetworkPlan {
        name: NetworkName(WEB.into()),
        guid: None,
        gateways: vec![address(1)],
        mtu: MTU,
        egress: Egress::Masquerade,
        overlay: None,
    }
}

fn database() -> NetworkPlan {
    NetworkPlan { name: NetworkName("zl-ct-db-b".into()), gateways: vec![net("10.77.9.1/26")], ..web() }
}

/// The `number`th host address of the network.
fn address(number: u8) -> IpNet {
    net(&format!("10.77.8.{number}/26"))
}

fn plan(container: &Container, number: u8) -> AttachPlan {
    let interface = InterfacePlan {
        name: link("eth0"),
        host_name: host_name(container, 's'),
        address: address(number),
        routes: vec![ContainerRoute { destination: net("0.0.0.0/0"), gateway: Some(address(1).addr()) }],
        mtu: MTU,
        uplink: Uplink::Network(web().name),
    };
    AttachPlan {
        id: container.id.clone(),
        target: container.target.clone(),
        known: None,
        interfaces: vec![interface],
        resolver: None,
    }
}

fn planned(number: u8) -> ContainerLink {
    ContainerLink {
        name: link("eth0"),
        addresses: vec![address(number)],
        mtu: MTU,
        default_gateway: Some(address(1).addr()),
    }
}

/// The name of the host's end as protocol clients know it: `veth-{pid}-s`, and for other handles the end of their id.
fn host_name(container: &Container, leg: char) -> LinkName {
    let id = match &container.id {
        AttachmentId::Process(pid) => pid.to_string(),
        AttachmentId::Namespace(id) | AttachmentId::Compute(id) => id.clone(),
        AttachmentId::ComputeNamespace(guid) => guid.0.clone(),
    };
    let start = id.len().saturating_sub(LinkName::MAX_LEN - "veth--s".len());
    link(&format!("veth-{}-{leg}", &id[start..]))
}
