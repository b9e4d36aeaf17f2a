//! Attachments after the host has changed: fences, places and containers that are gone.

use std::collections::BTreeMap;

use super::Attachments;
use crate::{
    contract::{AttachmentId, HostNetworks, Target},
    desired::{AttachmentRecord, Phase},
    engine::{Error, locks::Entered},
};

/// Which attachments a pass looks after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum AttachmentScope {
    /// Those that are not as recorded.
    Drifted,
    /// All: the daemon has just started, or what they are planned with has changed.
    All,
}

/// How an attachment was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum AttachmentState {
    /// It was not asked for, or it was detached in the time between.
    Unknown,
    /// It is plugged in.
    PluggedIn,
    /// Its container is gone, and so is the attachment now.
    Ended,
}

/// The attachments that the host has, and whether each is alive.
#[derive(Debug, Default)]
pub(in crate::engine) struct SeenAttachments(BTreeMap<AttachmentId, bool>);

impl SeenAttachments {
    pub(in crate::engine) fn of(networks: HostNetworks) -> Self {
        Self(networks.attachments.into_iter().map(|attachment| (attachment.id, attachment.alive)).collect())
    }

    /// Whether the host has something of it.
    pub(in crate::engine) fn has(&self, id: &AttachmentId) -> bool {
        self.0.contains_key(id)
    }

    fn is_in_place(&self, id: &AttachmentId) -> bool {
        self.0.get(id) == Some(&true)
    }
}

impl Attachments {
    /// Has the fences around mere addresses stand, before a device has these addresses or lets them in. Returns what could
    /// not be fenced.
    pub(in crate::engine) async fn reconcile_fences(&self) -> Vec<(AttachmentId, Error)> {
        let mut failures = Vec::new();
        for (handle, record) in self.fenced_addresses() {
            let plugged = self.plugger.plug(&record).await;
            // A process of the host has no identity to keep out: its address comes back with the device, after this
            // step.
            if let Some(issued) = &record.issued {
                self.peers.admit(&handle.to_string(), issued, plugged.as_ref().map(|_| ())).await;
            }
            if let Err(error) = plugged {
                failures.push((record.id, error));
            }
        }
        failures
    }

    /// Plugs in again what has lost its place, and unplugs what is gone or could not be unplugged before. Returns what
    /// could not be done.
    pub(in crate::engine) async fn reconcile(
        &self,
        entered: &mut Entered<'_>,
        scope: AttachmentScope,
        seen: &SeenAttachments,
    ) -> Vec<(AttachmentId, Error)> {
        let mut failures = Vec::new();
        for DueAttachment { id, service } in self.due(scope, seen) {
            // Each for itself, so that a pass over many containers does not hold up requests for the others.
            let mut held = self.context.locks.service_shared(entered, &service).await;
            let _attachment = self.context.locks.attachment(&mut held, &id).await;
            match self.plugger.replug(&id).await {
                Ok(Some(_)) => tracing::debug!(handle = %id, "plugged in again"),
                Ok(None) => tracing::info!(handle = %id, "a container that is gone was detached"),
                Err(error) => failures.push((id, error)),
            }
        }
        failures
    }

    /// Plugs one attachment in as recorded, or forgets it with its container. One that lost nothing stays as it is.
    pub(in crate::engine) async fn look_after(&self, id: &AttachmentId) -> Result<AttachmentState, Error> {
        let mut entered = self.context.gate.enter().await;
        let service = self.context.ledger.desired().attachment(id).map(|record| record.service.clone());
        let Some(service) = service else { return Ok(AttachmentState::Unknown) };
        let mut held = self.context.locks.service_shared(&mut entered, &service).await;
        let _attachment = self.context.locks.attachment(&mut held, id).await;
        // It may have been detached before this request had its turn.
        if self.context.ledger.desired().attachment(id).is_none() {
            return Ok(AttachmentState::Unknown);
        }
        Ok(self.plugger.replug(id).await?.map_or(AttachmentState::Ended, |_| AttachmentState::PluggedIn))
    }

    fn due(&self, scope: AttachmentScope, seen: &SeenAttachments) -> Vec<DueAttachment> {
        let desired = self.context.ledger.desired();
        // A guest that is kept out has nothing on the host that could drift, and still is to be fenced and let in.
        let withheld = self.peers.withheld();
        let due = desired.attachments().iter().filter(|(_, record)| {
            let is_withheld = record.issued.as_ref().is_some_and(|issued| withheld.contains(&issued.public_key));
            let is_in_place = seen.is_in_place(&record.id) && !is_withheld;
            scope == AttachmentScope::All
                || record.phase == Phase::Leaving
                || (!is_in_place && record.has_host_objects())
        });
        due.map(|(id, record)| DueAttachment { id: id.clone(), service: record.service.clone() }).collect()
    }

    fn fenced_addresses(&self) -> Vec<(AttachmentId, AttachmentRecord)> {
        let desired = self.context.ledger.desired();
        let attachments = desired.attachments().iter();
        attachments
            .filter(|(_, record)| matches!(record.target, Target::Address(_)) && record.isolation.is_some())
            .map(|(handle, record)| (handle.clone(), record.clone()))
            .collect()
    }
}

/// An attachment that a pass looks after.
struct DueAttachment {
    id: AttachmentId,
    service: String,
}
