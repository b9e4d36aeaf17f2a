//! What all areas of the engine share.

use std::net::IpAddr;

use tokio::sync::watch;

use super::{
    EngineConfig,
    host::Host,
    identity::NodeIdentity,
    ledger::Ledger,
    locks::{ObjectLocks, TeardownGate},
};
use crate::desired::{Change, Desired};

/// The records, the host, and the rules by which areas work on them.
///
/// The order of the members is that in which they end. The store is closed before the host's backends go: packets of
/// devices in user space flow for as long as the store waits for a disk.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: EngineConfig,
    pub(super) ledger: Ledger,
    pub(super) identity: NodeIdentity,
    pub(super) locks: ObjectLocks,
    pub(super) gate: TeardownGate,
    pub(super) host: Host,
    /// Closed by the end of this value, when the store is closed already.
    pub(super) life: watch::Sender<()>,
}

impl Context {
    /// Unix second.
    pub(super) fn now(&self) -> u64 {
        self.config.clock.now()
    }

    /// The changes that return a lease: the address rests, and what has rested enough is forgotten.
    pub(super) fn rest(&self, desired: &Desired, ip: IpAddr) -> Vec<Change> {
        let now = self.now();
        // Two per release: the list of resting addresses shrinks faster than it grows, at a constant cost.
        let mut changes: Vec<_> = desired.rested(now).take(2).map(|ip| Change::Rest(ip, None)).collect();
        // Others may still have the address in caches of ARP and DNS: leased again at once, it would get their
        // packets.
        changes.push(Change::Rest(ip, Some(now + self.config.times.cool_down.as_secs())));
        changes
    }
}
