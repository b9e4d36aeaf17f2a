//! A fence that cannot be put up fails the attach.

use overlayd_core::protocol::{Request, Response};
use overlayd_netlink::nft::{Family, Nft, claim_table};
use overlayd_testkit::lab::{
    self, Cluster, Host, Underlay,
    probe::{Way, is_cut_off, pings, reaches},
};

use super::town::{join, membership};
use crate::{container, firewalls::tables_are_held};

/// Another process holds the tables that the daemon left when it was killed, and lets go of them later.
#[test]
fn a_fence_that_cannot_be_put_up_fails_the_attach_and_nothing_is_plugged_in() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    Cluster::V4.join(&mut lab.hosts, &["web"], Host::v4);
    let host = &mut lab.hosts[0];
    let [first, second, late] = [(); 3].map(|()| container());
    let mut client = host.client();
    join(&mut client, &first, "web", Some("job"), false);
    let at = join(&mut client, &second, "web", None, false);
    if !tables_are_held(host) {
        println!("SKIPPED: before Linux 6.9 nobody can keep the daemon from its tables in this way");
        return;
    }
    host.kill();
    let thief = thief(host);
    let mut client = host.start();
    let request = Request::AttachContainer(membership(&late, "web", Some("job")));
    let reply = client.call(request.clone()).expect("an answer");
    let Response::Err { message } = reply else { panic!("it was attached without a fence: {reply:?}") };
    assert!(message.contains("nftables table"), "{message}");
    assert_eq!(late.run(&["ip", "-oneline", "link"]).lines().count(), 1, "it has more than a loopback");
    assert!(is_cut_off(&first, &second, at, Way::Udp), "a fence from before is gone");
    drop(thief);
    let reply = client.ask(request);
    assert!(matches!(reply, Response::Attached(_)), "{reply:?}");
    assert!(is_cut_off(&late, &second, at, Way::Udp) && reaches(&second, &second, at, Way::Udp));
    assert!(pings(&late, client.status().node_ip.expect("a node address")));
}

fn thief(host: &Host) -> Nft {
    let listed = host.run(&["nft", "list", "tables"]);
    let table = listed.lines().find_map(|line| line.strip_prefix("table inet ")).expect("a table of the daemon's");
    let thief = host.namespace.enter(Nft::here).expect("nftables");
    let claim = [Family::Inet, Family::Bridge]
        .into_iter()
        .fold(thief.transaction(), |change, family| claim_table(change, family, table));
    let generation = thief.generation().expect("a generation");
    thief.commit(claim, generation, "claim a table of a dead daemon").expect("the claim");
    thief
}
