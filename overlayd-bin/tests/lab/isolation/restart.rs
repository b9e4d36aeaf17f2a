//! Membership outlives the daemon.

use overlayd_core::protocol::{AttachHandle, Request};
use overlayd_testkit::lab::{self, LabCluster};

use super::town::{Isolation, Town, join};
use crate::container;

#[test]
fn ipv4_members_stay_fenced_while_the_daemon_is_dead_and_after() {
    killed(LabCluster::V4);
}

#[test]
fn ipv6_members_stay_fenced_while_the_daemon_is_dead_and_after() {
    killed(LabCluster::V6);
}

fn killed(cluster: LabCluster) {
    if !lab::available() {
        return;
    }
    let mut town = Town::new(cluster, Isolation::Strict);
    town.lab.hosts[0].kill();
    holds(&town, "while the daemon is dead");
    let mut client = town.lab.hosts[0].start();
    holds(&town, "after its return");
    // Who joins afterwards joins the same network, and who leaves is no member any more.
    let late = container();
    let ip = join(&mut client, &late, "web", Some("job"), false);
    let (m1, at) = town.who("m1");
    assert!(overlayd_testkit::lab::probe::pings(m1, ip) && overlayd_testkit::lab::probe::pings(&late, at));
    holds(&town, "after another joined");
    let pid = m1.pid();
    client.ok(Request::DetachContainer { handle: AttachHandle::LinuxPid { pid } });
    assert_eq!(town.not_reached(&["m2"], &["m3"]), [""; 0]);
    assert_eq!(join(&mut client, m1, "web", None, false).is_ipv4(), at.is_ipv4());
    assert_eq!(town.not_reached(&["n"], &["d"]), [""; 0]);
}

#[track_caller]
fn holds(town: &Town, when: &str) {
    let mut wrong = town.not_reached(&["m1"], &["m2", "m3", "node 0", "outside"]);
    wrong.extend(town.not_cut_off(&["m1"], &["x", "n", "rn"]));
    wrong.extend(town.not_cut_off(&["n", "rn"], &["m1"]));
    assert!(wrong.is_empty(), "{when}: {wrong:#?}");
}
