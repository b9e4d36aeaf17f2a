//! A laboratory of network namespaces: hosts that run the real `overlayd` on an underlay of your choice, containers that
//! are real processes, and probes that send real packets.
//!
//! ```text
//!   container    container              container
//!   (netns)      (netns)                (netns)
//!      │ veth       │ veth                 │ veth
//!   ┌──┴────────────┴──┐                ┌──┴───────┐
//!   │ host 0           │                │ host 1   │   own net and mount namespace each: own /run and /sys,
//!   │ overlayd         │                │ overlayd │   own data directory, own socket
//!   └──────┬───────────┘                └────┬─────┘
//!     eth0 │ 192.0.2.1             192.0.2.2 │ eth0
//!        ┌─┴─────────────────────────────────┴─┐
//!        │ core: switch or router, with loss  │  203.0.113.99 stands for the outside world
//!        └─────────────────────────────────────┘
//! ```
//!
//! Nothing has a name outside of its own namespace, so labs run side by side. Namespaces live as long as the process
//! that holds them, which ends with the test's: by `drop`, also on panic, and by the closed pipe if the test is killed.
//! Failures of the lab itself panic with the command and its words: a lab that cannot be built is no test result.

mod cleanup;
mod client;
mod cluster;
mod confined;
mod daemon;
mod facts;
mod host;
mod namespace;
pub mod probe;
mod underlay;

use std::{collections::BTreeSet, io};

pub use cleanup::await_cleanup;
pub use client::{LabClient, attach_request};
pub use cluster::{LabCluster, Node};
pub use host::{Host, HostPrivileges};
pub use namespace::{Namespace, NamespaceConfinement};
pub use underlay::{Lab, LinkShape, OUTSIDE, OUTSIDE_V6, Underlay};

/// What is on a host, one line per fact, such as `ip -4: default via 192.0.2.254 dev eth0`. Two equal sets mean an unchanged host.
pub type HostFacts = BTreeSet<String>;

/// What is in a host's namespace: links, addresses, routes, rules, sysctls, files under `/run`.
pub fn facts(host: &Namespace) -> HostFacts {
    facts::of(host)
}

/// Whether a lab can be built here: as root, with network namespaces. Otherwise panics with the reason, or, when the
/// environment says `OVERLAYD_ALLOW_SKIP=1`, prints it after `SKIPPED` and answers no.
#[must_use]
pub fn available() -> bool {
    match namespace::probe() {
        Ok(()) => true,
        Err(reason) if std::env::var_os("OVERLAYD_ALLOW_SKIP").is_some_and(|value| value == "1") => {
            println!("SKIPPED: no lab here: {reason}");
            false
        }
        Err(reason) => panic!("no lab here: {reason} (set OVERLAYD_ALLOW_SKIP=1 to skip what needs one)"),
    }
}

/// Repeats a wait that a signal interrupted. The kernel ends every wait with a time-out so, even for a signal that has no
/// handler and for a tracer's (signal(7), "Interruption of system calls"): that says nothing about what is waited for.
pub fn uninterrupted<T>(mut wait: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match wait() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
