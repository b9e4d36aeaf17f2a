//! Attachments: containers, guests and processes of the host that have an address on a service or on the overlay.

mod guest;
mod host_process;
mod plugger;
mod ports;
mod reconcile;

use std::sync::Arc;

use self::{guest::GuestAttachments, host_process::HostProcesses, ports::PublishedPorts};
pub(super) use self::{
    guest::{KEEPALIVE_SECS, issued_peer},
    plugger::AttachmentPlugger,
    reconcile::{AttachmentScope, AttachmentState, SeenAttachments},
};
use super::{
    Error,
    context::Context,
    lifetime::{ServiceUse, used},
    locks::Entered,
    names::NameAnswers,
    peer_sync::PeerSync,
};
use crate::{
    command::{AttachCommand, RequestedContainer},
    contract::{AttachmentId, PortPlan},
    desired::{AttachmentRecord, Change, ResolverRecord},
    protocol::{AttachResult, Response},
};

/// What is attached on this host.
#[derive(Debug)]
pub(super) struct Attachments {
    context: Arc<Context>,
    peers: Arc<PeerSync>,
    names: Arc<NameAnswers>,
    plugger: Arc<AttachmentPlugger>,
    guests: GuestAttachments,
    host_processes: HostProcesses,
    ports: PublishedPorts,
}

impl Attachments {
    pub(super) fn new(
        context: &Arc<Context>,
        peers: &Arc<PeerSync>,
        names: &Arc<NameAnswers>,
        plugger: &Arc<AttachmentPlugger>,
    ) -> Self {
        Self {
            guests: GuestAttachments::new(context, peers, plugger),
            host_processes: HostProcesses::new(context, plugger),
            ports: PublishedPorts::new(context, plugger),
            context: Arc::clone(context),
            peers: Arc::clone(peers),
            names: Arc::clone(names),
            plugger: Arc::clone(plugger),
        }
    }

    pub(super) async fn attach(&self, entered: &mut Entered<'_>, command: AttachCommand) -> Result<Response, Error> {
        let mut service = self.context.locks.service_shared(entered, &command.service).await;
        let handle = command.container.id();
        let _attachment = self.context.locks.attachment(&mut service, &handle).await;
        self.note_resolver(&command).await?;
        // A repeated request may come because the first answer was lost. What is on record is finished first, so that
        // the answer is about what the host really has; a record of a container that is gone is withdrawn here, and
        // its name is free again.
        let known = self.plugger.replug(&handle).await?;
        if let Some(known) = &known {
            check_same(&handle, known, &command)?;
        }
        let service = command.service.clone();
        let lasting = !command.ephemeral;
        let outcome = self.attach_by_kind(known, command).await;
        // A container that joins has the service last as long as it does. Only now: a refused attach leaves nothing to
        // take back from a record that others share.
        if outcome.is_ok() {
            let usage = if lasting { ServiceUse::Lasting } else { ServiceUse::Passing };
            self.context.ledger.record(|desired| Ok(used(desired, &service, usage).into_iter().collect())).await?;
        }
        // Refused or not: another attach may have had this address answered in the time between.
        self.names.serve_service(&service).await;
        outcome
    }

    async fn attach_by_kind(&self, known: Option<AttachmentRecord>, command: AttachCommand) -> Result<Response, Error> {
        match (&command.container, known) {
            // A guest gets its whole config again, not only its address: it may have lost it.
            (RequestedContainer::Guest(id), known) => self.guests.attach(id, known, &command).await,
            (_, Some(known)) => Ok(reply(&known)),
            (RequestedContainer::HostProcess(id), None) => self.host_processes.attach(id, &command).await,
            (RequestedContainer::Namespaced { id, target }, None) => {
                self.plugger.plug_new(id, target, &command).await.map(|record| reply(&record))
            }
        }
    }

    /// Detaches, and returns the service that may be empty now.
    pub(super) async fn detach(
        &self,
        entered: &mut Entered<'_>,
        container: RequestedContainer,
    ) -> Result<Option<String>, Error> {
        // The record is looked at under the lock again, because another request may detach it before this one has its
        // turn.
        let id = self.context.ledger.desired().resolve_attachment(container.id());
        let _attachment = self.context.locks.attachment(entered, &id).await;
        let service = self.context.ledger.desired().attachment(&id).map(|record| record.service.clone());
        match service {
            Some(_) => self.plugger.unplug(&id).await?,
            // Not on record, but maybe on the host: a daemon may have ended between the two.
            None => self.context.host.networks.detach(&id).await?,
        }
        Ok(service)
    }

    /// Replaces the published ports of an attachment; an empty list unpublishes them all.
    pub(super) async fn publish_ports(
        &self,
        entered: &mut Entered<'_>,
        id: &AttachmentId,
        ports: Vec<PortPlan>,
    ) -> Result<Response, Error> {
        let _attachment = self.context.locks.attachment(entered, id).await;
        self.ports.replace(id, ports).await
    }

    /// Remembers the resolver that containers are told to use; what a request leaves out stays as it was.
    async fn note_resolver(&self, command: &AttachCommand) -> Result<(), Error> {
        self.context
            .ledger
            .record(|desired| {
                let known = desired.resolver();
                let resolver = ResolverRecord {
                    server: command.dns_server.or(known.server),
                    domain: command.dns_domain.clone().or_else(|| known.domain.clone()),
                };
                // Almost every container names the same resolver: without a change nothing waits for the disk.
                let is_same = resolver == *known;
                Ok(if is_same { vec![] } else { vec![Change::Resolver(Some(resolver))] })
            })
            .await
    }
}

/// A repeated request is the same request, or it is refused.
fn check_same(handle: &AttachmentId, known: &AttachmentRecord, asked: &AttachCommand) -> Result<(), Error> {
    if known.service != asked.service {
        return Err(Error::Conflict(format!(
            "{handle} is attached to service {}; detach it before attaching it to {}",
            known.service, asked.service,
        )));
    }
    if known.isolation != asked.isolation {
        return Err(Error::Conflict(format!(
            "{handle} is attached with {}; detach it before attaching it with {}",
            isolation_text(known.isolation.as_deref()),
            isolation_text(asked.isolation.as_deref()),
        )));
    }
    Ok(())
}

fn isolation_text(network: Option<&str>) -> String {
    match network {
        Some(network) => format!("isolation network {network}"),
        None => "no isolation network".into(),
    }
}

fn reply(record: &AttachmentRecord) -> Response {
    let namespace_guid = record.namespace.as_ref().map(|guid| guid.0.clone());
    Response::Attached(AttachResult { ip: record.service_ip, namespace_guid })
}
