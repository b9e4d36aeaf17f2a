//! The real daemon in a lab of network namespaces, driven over its socket as an orchestrator drives it.
//!
//! Every test builds the lab it needs (the topology is drawn in each file) and takes it away again.
#![cfg(target_os = "linux")]

mod against_by_hand;
mod coexistence;
mod crash;
mod crowd;
mod dedicated;
mod edge;
mod every_operation;
mod isolation;
mod leftovers;
mod live_changes;
mod names;
mod privileges;
mod restart;
mod secrets;
mod two_hosts;
mod underlays;
mod upgrade;
mod wireguard;

use std::path::Path;

use overlayd_testkit::lab::{Confinement, Lab, Namespace, Underlay};

/// The binary under test.
fn overlayd() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_overlayd"))
}

/// So many hosts on this underlay.
fn lab(hosts: usize, underlay: &Underlay) -> Lab {
    Lab::new(hosts, underlay, overlayd())
}

/// A container that may do all that the test may.
fn container() -> Namespace {
    Namespace::container(Confinement::None)
}
