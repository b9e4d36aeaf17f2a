//! Processes in the host's own network namespace: each gets an address of its own on the global device.

use std::sync::Arc;

use super::{
    AttachmentPlugger,
    guest::{at_address, require_overlay},
    reply,
};
use crate::{
    command::AttachCommand,
    contract::AttachmentId,
    desired::Change,
    engine::{
        Error,
        context::Context,
        leases::{end_rest, pick_slice_ip},
    },
    protocol::Response,
};

/// Attaches processes of the host.
#[derive(Debug)]
pub(super) struct HostProcesses {
    context: Arc<Context>,
    plugger: Arc<AttachmentPlugger>,
}

impl HostProcesses {
    pub(super) fn new(context: &Arc<Context>, plugger: &Arc<AttachmentPlugger>) -> Self {
        Self { context: Arc::clone(context), plugger: Arc::clone(plugger) }
    }

    /// The fence stands before the address is on the device.
    pub(super) async fn attach(&self, id: &str, command: &AttachCommand) -> Result<Response, Error> {
        let handle = AttachmentId::Host(id.to_owned());
        let now = self.context.now();
        let (undo, record) = self
            .context
            .ledger
            .decide(|desired| {
                require_overlay(desired, "host-shared")?;
                let ip = pick_slice_ip(desired, now)?;
                let record = at_address(AttachmentId::Host(id.to_owned()), ip, command, None);
                let mut changes = end_rest(desired, ip);
                changes.push(Change::Attachment(handle.clone(), Some(record.clone())));
                Ok((changes, record))
            })
            .await?;
        let device = &self.plugger.global;
        let outcome = match self.plugger.plug(&record).await {
            Ok(_) => device.ensure_addresses(None).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            // In the reverse order: the address is off the device before the fence falls.
            let cleaned = match device.ensure_addresses(Some(record.service_ip)).await {
                Ok(()) => self.context.host.networks.detach(&record.id).await,
                Err(error) => Err(error),
            };
            self.plugger.withdraw(&handle, undo, cleaned).await?;
            return Err(error);
        }
        tracing::info!(%handle, ip = %record.service_ip, "a process of the host has an address on the overlay");
        Ok(reply(&record))
    }
}
