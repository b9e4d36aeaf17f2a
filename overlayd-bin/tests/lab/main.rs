//! The real daemon in a lab of network namespaces, driven over its socket as an orchestrator drives it.
//!
//! Every test builds the lab it needs (the topology is drawn in each file) and takes it away again.
#![cfg(target_os = "linux")]

mod against_by_hand;
mod coexistence;
mod crash;
mod crash_points;
mod crowd;
mod dedicated;
mod drift;
mod edge;
mod events;
mod every_operation;
mod firewalls;
mod full_disk;
mod guests;
mod hostile;
mod isolation;
mod leftovers;
mod live_changes;
mod managers;
mod mtu;
mod names;
mod ports;
mod privileges;
mod random;
mod restart;
mod restart_gap;
mod secrets;
mod services;
mod soak;
mod two_hosts;
mod underlays;
mod upgrade;
mod wireguard;

use std::{
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use overlayd_testkit::lab::{Lab, Namespace, NamespaceConfinement, Underlay};

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
    Namespace::container(NamespaceConfinement::None)
}

/// How long a program may take for what it is to do. Far more than it needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it holds, for what sends no event.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program that is not the daemon's, and runs until this is dropped.
struct Program(Child);

impl Program {
    fn start(at: &Namespace, command: &[&str]) -> Self {
        let command = [&["setpriv", "--pdeathsig=KILL"], command].concat();
        Self(at.command(&command).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that is gone already is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
