//! What the backends hold in this process goes to a successor, backend by backend.
//!
//! A backend that holds nothing has no [`Handover`], and is not asked.

use anyhow::{Context as _, Result, ensure};
use overlayd_core::{
    contract::{Handover, HandoverOutcome, HandoverPart},
    engine::Backends,
};

/// The handovers in the order in which they are prepared. DNS comes first: the successor binds the same sockets. The
/// attacher comes last: its rules fence containers for as long as this process forwards their packets.
fn handovers(backends: &Backends) -> impl Iterator<Item = &dyn Handover> {
    let dns = backends.dns.as_ref().and_then(|dns| dns.handover());
    let overlay = backends.overlay.handover();
    let attacher = backends.attacher.handover();
    [dns, overlay, attacher].into_iter().flatten()
}

/// Prepares every backend; what the overlay's gives to the successor.
pub(super) async fn prepare(backends: &Backends) -> Result<Vec<HandoverPart>> {
    let mut devices = Vec::new();
    for handover in handovers(backends) {
        let parts = handover.prepare().await?;
        // The channel to the successor knows devices only: a part of another backend would reach the wrong one.
        let is_overlay = backends.overlay.handover().is_some_and(|overlay| std::ptr::addr_eq(overlay, handover));
        ensure!(is_overlay || parts.is_empty(), "a backend without devices has something to hand over");
        devices.extend(parts);
    }
    Ok(devices)
}

/// Waits until the successor has everything that was prepared.
pub(super) async fn complete(backends: &Backends) -> Result<()> {
    for handover in handovers(backends) {
        let outcome = handover.complete().await?;
        ensure!(outcome == HandoverOutcome::Done, "the successor ended before it had taken over everything");
    }
    Ok(())
}

/// Takes back what was prepared. Every backend is asked, although another one fails.
pub(super) async fn abort(backends: &Backends) -> Result<()> {
    let mut outcome = Ok(());
    for handover in handovers(backends) {
        outcome = outcome.and(handover.abort().await);
    }
    outcome.context("could not take back what was prepared for the successor")
}

/// Gives the overlay's backend the devices of an older process.
pub(super) async fn inherit(backends: &Backends, devices: Vec<HandoverPart>) -> Result<()> {
    match backends.overlay.handover() {
        Some(handover) => Ok(handover.inherit(devices).await?),
        None => {
            ensure!(
                devices.is_empty(),
                "the older daemon carries packets of {} devices itself, and this one uses no WireGuard in user space",
                devices.len()
            );
            Ok(())
        }
    }
}
