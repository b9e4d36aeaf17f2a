//! Isolation networks: who reaches whom, cell by cell, in both families and by TCP, UDP and ICMP, across two hosts.
//!
//! ```text
//!   m1 m2 g (members of "job")  x (of "other")  n (of none)     m3 (job)  d         rm (job)       rn
//!      └────────────────── web bridge ────────────┘                └ db bridge ┘     └ web bridge ┘  └ db bridge ┘
//!                               └──────────────────── host 0 ───────────┘                └─── host 1 ─────┘
//!                                                       └──────────── switch, outside ──────────┘
//! ```

mod one_bridge;
mod refused;
mod restart;
mod town;

use overlayd_testkit::lab::{self, LabCluster};

pub(crate) use self::town::join;
use self::town::{Isolation, Town};

/// What holds however the daemon is configured.
const ALWAYS: [(&[&str], &[&str]); 4] = [
    (&["m1", "m3", "g"], &["m2", "m3", "g", "g by eth1", "node 0", "gateway", "outside", "host 1"]),
    (&["m2"], &["m1"]),
    (&["node 0"], &["m1", "m3", "g", "g by eth1"]),
    (&["n", "d"], &["rn", "node 1", "n", "d"]),
];
const NEVER: [(&[&str], &[&str]); 3] = [
    (&["m1", "m3", "g"], &["x", "n", "d", "rn", "rm", "node 1", "stranger"]),
    (&["x"], &["m1", "m3", "g by eth1", "rm"]),
    (&["rm"], &["m1", "m3", "node 0", "n"]),
];
/// Who is no member may call one, unless the daemon is strict.
const STRANGERS: (&[&str], &[&str]) = (&["n", "d", "rn", "node 1"], &["m1", "m3", "g by eth1"]);

#[test]
fn ipv4_every_cell_of_the_table_holds() {
    table(LabCluster::V4, Isolation::Open);
}

#[test]
fn ipv6_every_cell_of_the_table_holds() {
    table(LabCluster::V6, Isolation::Open);
}

#[test]
fn ipv4_strict_isolation_refuses_strangers_too() {
    table(LabCluster::V4, Isolation::Strict);
}

#[test]
fn ipv6_strict_isolation_refuses_strangers_too() {
    table(LabCluster::V6, Isolation::Strict);
}

fn table(cluster: LabCluster, isolation: Isolation) {
    if !lab::available() {
        return;
    }
    let town = Town::new(cluster, isolation);
    let mut wrong = Vec::new();
    for (from, to) in ALWAYS {
        wrong.extend(town.not_reached(from, to));
    }
    for (from, to) in NEVER {
        wrong.extend(town.not_cut_off(from, to));
    }
    let (from, to) = STRANGERS;
    match isolation {
        Isolation::Open => wrong.extend(town.not_reached(from, to)),
        Isolation::Strict => wrong.extend(town.not_cut_off(from, to)),
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
