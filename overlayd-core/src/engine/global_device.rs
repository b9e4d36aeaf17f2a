//! The WireGuard device of the global overlay: whether it is there, its MTU, and the addresses on it.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU16, Ordering},
    },
};

use super::{Error, context::Context};
use crate::{contract::DeviceInfo, names::LinkName, plan};

/// How far the global overlay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum OverlayState {
    /// Not asked for.
    Absent,
    /// A set-up is under way: its device may not be there yet, and is given all its peers at the end.
    ComingUp,
    /// Asked for, and set up.
    Up,
}

/// The device of the global overlay.
#[derive(Debug)]
pub(super) struct GlobalDevice {
    context: Arc<Context>,
    state: AtomicU8,
    /// In bytes.
    mtu: AtomicU16,
}

impl GlobalDevice {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        let state = recorded_state(context);
        Self { context: Arc::clone(context), state: AtomicU8::new(state as u8), mtu: AtomicU16::new(plan::DEFAULT_MTU) }
    }

    /// Its name, once the overlay is asked for.
    pub(super) fn name(&self) -> Option<LinkName> {
        self.context.ledger.desired().overlay().map(|overlay| overlay.device.clone())
    }

    pub(super) fn mtu(&self) -> u16 {
        self.mtu.load(Ordering::Relaxed)
    }

    /// A device that is coming up is given its peers and addresses from the record, so that what is recorded now reaches
    /// it also when the device cannot be told.
    pub(super) fn is_coming_up(&self) -> bool {
        self.state.load(Ordering::SeqCst) == OverlayState::ComingUp as u8
    }

    /// The overlay is coming up until the guard is dropped. Only the holder of the overlay's lock sets it up.
    pub(super) fn begin_set_up(&self) -> SetUpGuard<'_> {
        // Before the decision is on record: a request that finds the overlay on record must not take its device for
        // deleted.
        self.set_state(OverlayState::ComingUp);
        SetUpGuard(self)
    }

    /// Everything was removed from the host.
    pub(super) fn is_removed(&self) {
        self.set_state(OverlayState::Absent);
    }

    /// Makes the device be as recorded, and notes its MTU.
    pub(super) async fn bring_up(&self) -> Result<(), Error> {
        if let Some(info) = self.ensure_without(None).await? {
            self.mtu.store(info.mtu, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Puts the recorded addresses on the device, less one that is about to be forgotten.
    pub(super) async fn ensure_addresses(&self, without: Option<IpAddr>) -> Result<(), Error> {
        // The MTU is not noted here: the next pass compares it with the last one, to give a new one to all containers.
        self.ensure_without(without).await.map(drop)
    }

    async fn ensure_without(&self, address: Option<IpAddr>) -> Result<Option<DeviceInfo>, Error> {
        let plan = {
            let desired = self.context.ledger.desired();
            let Some(overlay) = desired.overlay() else { return Ok(None) };
            let mut plan = plan::global_device(&desired, overlay, self.context.identity.private_key().clone());
            // The record still has the address, so that a daemon that ends now puts it back at its next start.
            plan.addresses.retain(|known| Some(known.addr()) != address);
            plan
        };
        self.context.host.devices.ensure(&plan).await.map(Some)
    }

    fn set_state(&self, state: OverlayState) {
        self.state.store(state as u8, Ordering::SeqCst);
    }
}

/// The overlay is coming up for as long as this lives. At the end, what is recorded says how far it is: a set-up that
/// failed is withdrawn by then.
#[derive(Debug)]
#[must_use = "the set-up is over when this is dropped"]
pub(super) struct SetUpGuard<'a>(&'a GlobalDevice);

impl Drop for SetUpGuard<'_> {
    fn drop(&mut self) {
        self.0.set_state(recorded_state(&self.0.context));
    }
}

fn recorded_state(context: &Context) -> OverlayState {
    match context.ledger.desired().overlay() {
        Some(_) => OverlayState::Up,
        None => OverlayState::Absent,
    }
}
