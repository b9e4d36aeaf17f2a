//! What an attach, a detach and a look at what is there say to the kernel, counted. The count is that of the process: nothing
//! else runs in this one. Needs root.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Bench, V4, container};
use overlayd_core::contract::{AttachPlan, Attacher, AttachmentId, FencePlan, Inbound, NetworkPlan};
use overlayd_netlink::{Rtnl, Traffic, device};
use overlayd_testkit::lab::Namespace;

/// Containers that are there already.
const CROWD: u8 = 50;
/// The kernel may be asked a few times whether it has noticed that an interface is connected.
const LOOKS: u64 = 12;

#[tokio::test]
async fn beside_many_containers_no_more_is_said_than_beside_none() {
    let bench = Bench::new(V4);
    let web = bench.web();
    bench.backend.ensure_network(&web).await.unwrap();
    let guest = container();
    let few = cost(&bench, &web, &guest).await;
    let few_looked = pass(&bench, &web).await;
    let crowd: Vec<(u8, Namespace)> = (3..3 + CROWD).map(|number| (number, container())).collect();
    for (number, one) in &crowd {
        attach(&bench, &web, one, *number).await;
    }
    let many = cost(&bench, &web, &guest).await;
    println!("requests and answers of an attach and a detach: {few} beside none, {many} beside {CROWD}");
    assert!(many <= few + LOOKS, "{many} messages beside {CROWD} containers, {few} beside none");
    let many_looked = pass(&bench, &web).await;
    println!("of a pass: {few_looked} beside none, {many_looked} beside {CROWD}");
    assert_eq!(many_looked, few_looked, "beside {CROWD} containers and beside none");
    let seen = bench.backend.observe().await.unwrap();
    assert_eq!(seen.networks[0].members, usize::from(CROWD));
    assert_eq!(seen.attachments.iter().filter(|attachment| attachment.alive).count(), usize::from(CROWD));
}

/// The messages of what happens every five seconds while nothing changes.
async fn pass(bench: &Bench, web: &NetworkPlan) -> u64 {
    let rtnl = bench.host.enter(|| Rtnl::here().unwrap());
    let mut last = 0;
    // The first one looks at what others have changed in the ruleset since.
    for _ in 0..2 {
        let before = Traffic::so_far();
        bench.backend.ensure_network(web).await.unwrap();
        bench.backend.observe().await.unwrap();
        device::underlay_mtu(&rtnl, &[]).unwrap();
        let said = Traffic::so_far().since(before);
        last = said.requests + said.answers;
    }
    last
}

/// The fewest messages of several rounds of an attach and a detach.
async fn cost(bench: &Bench, web: &NetworkPlan, guest: &Namespace) -> u64 {
    let mut fewest = u64::MAX;
    for _ in 0..8 {
        let before = Traffic::so_far();
        attach(bench, web, guest, 2).await;
        bench.backend.detach(&AttachmentId::Process(guest.pid())).await.unwrap();
        let said = Traffic::so_far().since(before);
        fewest = fewest.min(said.requests + said.answers);
        // The deletion of the links is no part of it.
        bench.backend.settle().await.unwrap();
    }
    fewest
}

async fn attach(bench: &Bench, web: &NetworkPlan, guest: &Namespace, number: u8) {
    let inbound = Inbound::Anyone;
    let fence = FencePlan { network: "tenant".into(), reachable: web.gateways.clone(), overlay: vec![], inbound };
    let plan = bench.plan(guest, web, number);
    bench.backend.attach(&AttachPlan { fence: Some(fence), ..plan }).await.unwrap();
}
