//! Tells WireGuard devices which peers they have. A device is told what the record says at that moment, so the order in
//! which requests reach it does not matter.

mod admission;
mod compare;
mod device_memo;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use self::device_memo::{DeviceMemo, DeviceMemos, PeerAddresses, SyncKey};
use super::{Error, context::Context, global_device::GlobalDevice, observer::DeviceObserver};
use crate::{
    contract::{self, PeerChange},
    desired::{Desired, DeviceScope, PeerId, PeerRecord},
    keys::PublicKey,
    names::LinkName,
    plan,
};

/// Brings the peers of the devices in line with the record.
#[derive(Debug)]
pub(super) struct PeerSync {
    context: Arc<Context>,
    global: Arc<GlobalDevice>,
    observer: Arc<DeviceObserver>,
    /// The addresses that host names of peers stand for.
    pub(super) addresses: PeerAddresses,
    memos: DeviceMemos,
    /// Issued identities whose fence does not stand: they are kept out until it does.
    withheld: Mutex<BTreeSet<PublicKey>>,
}

impl PeerSync {
    pub(super) fn new(context: &Arc<Context>, global: &Arc<GlobalDevice>, observer: &Arc<DeviceObserver>) -> Self {
        Self {
            context: Arc::clone(context),
            global: Arc::clone(global),
            observer: Arc::clone(observer),
            addresses: PeerAddresses::default(),
            memos: DeviceMemos::default(),
            withheld: Mutex::default(),
        }
    }

    /// Tells a device all its peers on record, and to forget those that are not. Peers it knows keep the endpoint they
    /// were last heard from.
    pub(super) async fn reconcile(&self, scope: &DeviceScope) -> Result<(), Error> {
        let Some(device) = device_of(&self.context.ledger.desired(), scope) else { return Ok(()) };
        // The global device is looked at through the observer, so that the same list of peers serves status, events
        // and this comparison.
        let observed = match scope {
            DeviceScope::Global => self.observer.look().await?,
            DeviceScope::Service(_) => self.context.host.devices.observe().await?,
        };
        let seen = observed.into_iter().find(|status| status.name == device).map(|status| status.peers);
        let memo = self.memos.of(scope);
        let mut memo = memo.lock().await;
        let Some(changes) = self.difference(&mut memo, scope, seen.unwrap_or_default()) else { return Ok(()) };
        self.context.host.devices.change_peers(&device, &changes).await?;
        memo.note_accepted(&changes);
        // Status shows the change before the next interval.
        self.observer.look_soon();
        Ok(())
    }

    /// Tells the device of `ids`, which all are on the same one, what the record says of them now. Without a device there
    /// is nothing to tell.
    pub(super) async fn send(&self, ids: &[PeerId]) -> Result<(), Error> {
        let Some(first) = ids.first() else { return Ok(()) };
        let scope = &first.scope;
        let memo = self.memos.of(scope);
        let mut memo = memo.lock().await;
        // Until a pass has looked again: this may fail, and it may come after one that has looked.
        memo.may_differ();
        let Some((device, changes)) = self.changes_of(&memo, ids) else { return Ok(()) };
        // Asked before the device is: a set-up that ends in between has told it of these peers, which are on record.
        let coming_up = *scope == DeviceScope::Global && self.global.is_coming_up();
        match self.context.host.devices.change_peers(&device, &changes).await {
            // The device is made by a set-up that has begun before; at its end it is told all peers, these among
            // them.
            Err(Error::Host { source: contract::Error::NotFound(_), .. }) if coming_up => return Ok(()),
            outcome => outcome?,
        }
        memo.note_accepted(&changes);
        self.observer.look_soon();
        Ok(())
    }

    /// Forgets what the device of `service` was told, because it goes.
    pub(super) fn forget_device(&self, service: &str) {
        self.memos.forget(&DeviceScope::service(service));
    }

    /// Forgets what all devices were told, because they go.
    pub(super) fn forget_all(&self) {
        self.memos.forget_all();
    }

    /// What to tell the device about these peers, if there is one.
    fn changes_of(&self, memo: &DeviceMemo, ids: &[PeerId]) -> Option<(LinkName, Vec<PeerChange>)> {
        let desired = self.context.ledger.desired();
        let withheld = self.withheld();
        let device = device_of(&desired, &ids.first()?.scope)?;
        // From the record at this moment and not from the request: of two requests about a peer that reach the device
        // in the wrong order, both tell it the later record.
        let changes = ids.iter().map(|id| match desired.peer(id) {
            Some(record) if !withheld.contains(&id.public_key) => self.set(memo, id, record),
            Some(_) | None => PeerChange::Remove(id.public_key),
        });
        Some((device, changes.collect()))
    }

    fn set(&self, memo: &DeviceMemo, id: &PeerId, record: &PeerRecord) -> PeerChange {
        let address = self.addresses.of(id, record);
        PeerChange::Set(plan::peer(id.public_key, record, memo.endpoint_for(&id.public_key, address)))
    }
}

fn device_of(desired: &Desired, scope: &DeviceScope) -> Option<LinkName> {
    match scope {
        DeviceScope::Global => desired.overlay().map(|overlay| overlay.device.clone()),
        DeviceScope::Service(name) => {
            desired.service(name.as_str())?.dedicated.as_ref().map(|dedicated| dedicated.device.clone())
        }
    }
}
