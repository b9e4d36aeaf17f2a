//! The suite for [`Attacher`].

mod containers;
mod fences;
mod recovery;

use std::net::IpAddr;

use async_trait::async_trait;
use ipnet::IpNet;
use overlayd_core::{
    contract::{
        AttachPlan, Attached, Attacher, AttachmentId, Egress, NetworkName, NetworkPlan, ObservedAttachment, OverlayLeg,
        PortPlan, ServiceLeg, Target,
    },
    names::LinkName,
};

pub use self::{containers::*, fences::*, recovery::*};
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

    /// Puts a network (on Linux a link of that name) on the host that no instance of overlayd made.
    async fn put_foreign_network(&self, name: &NetworkName);

    /// Starts a container with a network namespace of its own and nothing in it.
    async fn start_container(&mut self) -> TestContainer;

    /// Ends the container and waits until its network namespace is gone.
    async fn stop_container(&mut self, container: &TestContainer);

    /// What the container has: its interfaces except the loopback, in the order of their names.
    async fn inside(&self, container: &TestContainer) -> Vec<SeenLink>;

    /// Whether the container gets an answer (to a ping) from this address.
    async fn reaches(&self, container: &TestContainer, address: IpAddr) -> bool;

    /// Whether a TCP connection to the first port of the host's arrives in the container, at the container's port. The host
    /// is spoken to at the gateway's address of the first network.
    async fn is_published(&self, container: &TestContainer, port: &PortPlan) -> bool;

    /// A target that exists and must never be plugged in, where the platform has one (on Linux a process in the
    /// daemon's own network namespace).
    fn forbidden(&self) -> Option<TestContainer>;

    /// A target of a kind that this platform does not have.
    fn alien(&self) -> TestContainer;
}

/// A container, and how an attach names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestContainer {
    /// The handle.
    pub id: AttachmentId,
    /// Where it is.
    pub target: Target,
}

/// An interface as the container sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLink {
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
    h.backend().remove_network(&web().name).await.expect("nothing to remove");
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
    h.backend().remove_network(&web().name).await.expect("nothing to remove");
    h.backend().detach(&container.id).await.expect("nothing to detach");
    assert_same_host(&before, &h.host().await, "meeting another instance's network");
    assert_eq!(h.inside(&container).await.len(), 1);
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

fn plan(container: &TestContainer, number: u8) -> AttachPlan {
    let leg = ServiceLeg { network: web().name, address: address(number), gateway: address(1).addr(), mtu: MTU };
    AttachPlan {
        id: container.id.clone(),
        target: container.target.clone(),
        known: None,
        service: Some(leg),
        overlay: None,
        resolver: None,
        fence: None,
        ports: vec![],
    }
}

fn planned(number: u8) -> SeenLink {
    SeenLink {
        name: link("eth0"),
        addresses: vec![address(number)],
        mtu: MTU,
        default_gateway: Some(address(1).addr()),
    }
}
