//! Services of all modes side by side, and the pruning of what is not in use.
//!
//! ```text
//!   a ── web bridge ─┐                    ┌─ web bridge ── far
//!   b (mail) ─┬─ shared bridge ─ host 0 ═══ host 1
//!   c (cron) ─┘
//! ```

use overlayd_core::protocol::{OverlayMode, Request, Response};
use overlayd_testkit::lab::{self, LabClient, LabCluster, Underlay, probe::pings};

use crate::container;

fn set_up(client: &mut LabClient, service: &str, mode: OverlayMode) -> String {
    match client.ask(Request::SetupServiceOverlay { service: service.into(), mode }) {
        Response::ServiceOverlay(info) => info.name,
        other => panic!("{other:?}"),
    }
}

fn prune(client: &mut LabClient, live: &[&str]) -> Vec<String> {
    let live_bridge_names = live.iter().map(|&name| name.into()).collect();
    match client.ask(Request::PruneOrphanBridges { live_bridge_names }) {
        Response::PrunedBridges { reclaimed } => reclaimed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn shared_services_have_one_bridge_that_reaches_the_whole_overlay() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(2, &Underlay::default());
    for host in &mut lab.hosts {
        host.start();
    }
    let mut client = lab.hosts[0].client();
    client.ok(Request::SetLocalNodeId { node_id: 0 });
    client.ask(LabCluster::V4.setup(0));
    let bridges = ["mail", "cron"].map(|service| set_up(&mut client, service, OverlayMode::Shared));
    assert_eq!(bridges[0], bridges[1]);
    // The orchestrator tells the other node of all blocks that are here.
    let near = LabCluster::V4.raise(&mut client, 0, &["web"], lab.hosts[0].v4());
    let far = LabCluster::V4.raise(&mut lab.hosts[1].client(), 1, &["web"], lab.hosts[1].v4());
    client.ok(far.as_peer());
    lab.hosts[1].client().ok(near.as_peer());
    let [a, b, c, d] = [(); 4].map(|()| container());
    let web = client.attach(a.pid(), "web");
    let (mail, cron) = (client.attach(b.pid(), "mail"), client.attach(c.pid(), "cron"));
    let remote = lab.hosts[1].client().attach(d.pid(), "web");
    for (from, to) in [(&b, cron), (&b, web), (&b, remote), (&d, mail), (&a, mail)] {
        assert!(pings(from, to), "{to} is not reached");
    }
}

#[test]
fn pruning_takes_idle_bridges_of_ours_and_nobody_elses() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    // What another daemon or a person made, under a name such as ours.
    host.run(&["ip", "link", "add", "zl-others-b", "type", "bridge"]);
    let mut client = host.start();
    LabCluster::V4.raise(&mut client, 0, &[], host.v4());
    let bridges = ["web", "idle", "named"].map(|service| set_up(&mut client, service, OverlayMode::Auto));
    let one = container();
    client.attach(one.pid(), "web");
    assert_eq!(prune(&mut client, &[&bridges[2]]), [bridges[1].clone()]);
    assert!(prune(&mut client, &[&bridges[2]]).is_empty(), "the second time there is nothing left");
    let links = host.run(&["ip", "-oneline", "link", "show", "type", "bridge"]);
    for (name, there) in [("zl-others-b", true), (&bridges[0], true), (&bridges[1], false), (&bridges[2], true)] {
        assert_eq!(links.contains(&format!(" {name}:")), there, "{name}: {links}");
    }
    // With no name at all, only what has members stays.
    assert_eq!(prune(&mut client, &[]), [bridges[2].clone()]);
    assert_eq!(client.status().service_count, 1);
}
