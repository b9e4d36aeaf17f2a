//! Processes in the host's own network namespace: each gets an address of its own on the global device.

use std::net::IpAddr;

use super::{
    guest::{at_address, require_overlay},
    reply,
};
use crate::{
    contract::AttachmentId,
    desired::{AttachmentRecord, Change, Handle},
    engine::{
        Engine, Error,
        leases::{end_rest, pick_slice_ip},
    },
    plan,
    protocol::{AttachContainer, Response},
};

impl Engine {
    pub(super) async fn attach_host(
        &self,
        id: &str,
        known: Option<AttachmentRecord>,
        request: AttachContainer,
    ) -> Result<Response, Error> {
        if let Some(known) = known {
            return Ok(reply(&known));
        }
        let handle = Handle::Host(id.to_owned());
        let now = self.now();
        let (undo, record) = self
            .decide(|desired| {
                require_overlay(desired, "host-shared")?;
                let ip = pick_slice_ip(desired, now)?;
                let record = at_address(AttachmentId::Host(id.to_owned()), ip, &request, None);
                let mut changes = end_rest(desired, ip);
                changes.push(Change::Attachment(handle.clone(), Some(record.clone())));
                Ok((changes, record))
            })
            .await?;
        let outcome = match self.plug(&record).await {
            Ok(_) => self.ensure_global_device(None).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            let cleaned = match self.drop_alias(record.service_ip).await {
                Ok(()) => self.host.detach(&record.id).await,
                Err(error) => Err(error),
            };
            self.refuse(&handle, undo, cleaned).await?;
            return Err(error);
        }
        tracing::info!(%handle, ip = %record.service_ip, "a process of the host has an address on the overlay");
        Ok(reply(&record))
    }

    /// Takes an alias off the device, before its record is forgotten.
    pub(super) async fn drop_alias(&self, ip: IpAddr) -> Result<(), Error> {
        self.ensure_global_device(Some(ip)).await
    }

    /// Makes the global device be as recorded, less an address that is about to be forgotten.
    async fn ensure_global_device(&self, without: Option<IpAddr>) -> Result<(), Error> {
        let plan = {
            let desired = self.desired();
            let overlay = desired.overlay();
            overlay.map(|overlay| plan::global_device(&desired, overlay, self.node_key.clone()))
        };
        let Some(mut plan) = plan else { return Ok(()) };
        plan.addresses.retain(|address| Some(address.addr()) != without);
        self.host.ensure_device(&plan).await.map(|_| ())
    }
}
