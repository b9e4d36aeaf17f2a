//! A daemon replaces itself while it works: the successor, which it starts itself, is given the listening socket and the
//! devices, and the older process ends only once the successor serves. If one of the two dies on the way, the other goes on.
//!
//! ```text
//!   older process                                      successor
//!   start ───────────────────────────────────────────▶ reads its settings
//!         ◀─────────────────────────────────── able ── (or why not: nothing has happened)
//!   lets requests end, closes the store
//!         ── listener, devices, go ──────────────────▶ opens the store, catches up with the host, answers
//!         ◀──────────────────────────────── serving ──
//!   hands its devices over, ends ────────────────────▶ is the daemon
//! ```

use std::os::fd::OwnedFd;

use anyhow::{Result, anyhow};
use overlayd_core::contract::{HandoverPart, HandoverResource};

mod channel;
mod message;
mod predecessor;
mod successor;

pub(crate) use self::{
    predecessor::{HandoverBundle, PredecessorProcess, refuse},
    successor::SuccessorProcess,
};

/// Set for a successor to the PID of the process that started it; its standard input is then the channel to that one.
/// A value that is not the parent's PID was meant for another process.
const VARIABLE: &str = "OVERLAYD_SUCCEEDS";

/// A part as it goes over the channel: on Linux every resource is a file descriptor.
fn into_descriptors(part: HandoverPart) -> Result<(String, Vec<OwnedFd>)> {
    let HandoverPart { name, resources } = part;
    let descriptors = resources.into_iter().map(HandoverResource::take::<OwnedFd>).collect::<Result<_, _>>();
    let descriptors = descriptors.map_err(|_| anyhow!("a resource of {name} is no file descriptor"))?;
    Ok((name, descriptors))
}

/// The part that came over the channel.
fn from_descriptors(name: String, descriptors: Vec<OwnedFd>) -> HandoverPart {
    HandoverPart { name, resources: descriptors.into_iter().map(HandoverResource::new).collect() }
}
