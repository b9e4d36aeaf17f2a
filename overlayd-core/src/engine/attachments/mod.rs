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
    parse,
    peer_sync::PeerSync,
};
use crate::{
    command::RequestedContainer,
    contract::AttachmentId,
    desired::{AttachmentRecord, Change, ResolverRecord},
    protocol::{AttachContainer, AttachHandle, AttachResult, PortSpec, Response},
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

    pub(super) async fn attach(&self, entered: &mut Entered<'_>, request: AttachContainer) -> Result<Response, Error> {
        let request = checked(request)?;
        let mut service = self.context.locks.service_shared(entered, &request.service).await;
        let container = RequestedContainer::from(request.handle.clone());
        let handle = container.id();
        let _attachment = self.context.locks.attachment(&mut service, &handle).await;
        self.note_resolver(&request).await?;
        let known = self.plugger.replug(&handle).await?;
        if let Some(known) = &known {
            check_same(&handle, known, &request)?;
        }
        let service = request.service.clone();
        let lasting = !request.ephemeral;
        let outcome = self.attach_by_kind(container, known, request).await;
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

    async fn attach_by_kind(
        &self,
        container: RequestedContainer,
        known: Option<AttachmentRecord>,
        request: AttachContainer,
    ) -> Result<Response, Error> {
        match (container, known) {
            (RequestedContainer::Guest(id), known) => self.guests.attach(&id, known, request).await,
            (_, Some(known)) => Ok(reply(&known)),
            (RequestedContainer::HostProcess(id), None) => self.host_processes.attach(&id, request).await,
            (RequestedContainer::Namespaced { id, target }, None) => {
                self.plugger.plug_new(id, target, request).await.map(|record| reply(&record))
            }
        }
    }

    /// Detaches, and returns the service that may be empty now.
    pub(super) async fn detach(
        &self,
        entered: &mut Entered<'_>,
        handle: AttachHandle,
    ) -> Result<Option<String>, Error> {
        let id = self.context.ledger.desired().resolve_attachment(RequestedContainer::from(handle).id());
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
        handle: AttachHandle,
        ports: Vec<PortSpec>,
    ) -> Result<Response, Error> {
        let ports = ports::checked(ports)?;
        let handle = RequestedContainer::from(handle).id();
        let _attachment = self.context.locks.attachment(entered, &handle).await;
        self.ports.replace(&handle, ports).await
    }

    /// Remembers the resolver that containers are told to use; what a request leaves out stays as it was.
    async fn note_resolver(&self, request: &AttachContainer) -> Result<(), Error> {
        self.context
            .ledger
            .record(|desired| {
                let known = desired.resolver();
                let resolver = ResolverRecord {
                    server: request.dns_server.or(known.server),
                    domain: request.dns_domain.clone().or_else(|| known.domain.clone()),
                };
                let is_same = resolver == *known;
                Ok(if is_same { vec![] } else { vec![Change::Resolver(Some(resolver))] })
            })
            .await
    }
}

/// Longest id of a namespace, in bytes: it has to fit into the mark of a link.
const LONGEST_NAMESPACE_ID: usize = 128;

/// Highest process id that Linux gives (`PID_MAX_LIMIT`).
const LAST_PID: u32 = 1 << 22;

/// The request, if every member makes sense by itself.
fn checked(request: AttachContainer) -> Result<AttachContainer, Error> {
    parse::name("service", &request.service)?;
    parse::name("isolation_network", request.isolation_network.as_deref().unwrap_or_default())?;
    match &request.handle {
        AttachHandle::LinuxPid { pid } if !(1..=LAST_PID).contains(pid) => {
            return Err(Error::invalid("pid", format_args!("{pid} is no process")));
        }
        AttachHandle::LinuxNetns { path, .. } if !path.starts_with('/') => {
            return Err(Error::invalid("path", format_args!("`{path}` is no absolute path")));
        }
        AttachHandle::LinuxNetns { id, .. } if id.len() > LONGEST_NAMESPACE_ID => {
            let bytes = id.len();
            return Err(Error::invalid("id", format_args!("{bytes} bytes are more than {LONGEST_NAMESPACE_ID}")));
        }
        AttachHandle::LinuxNetns { id, .. } | AttachHandle::GuestManaged { id } | AttachHandle::HostShared { id } => {
            parse::name("id", id)?;
            if id.is_empty() {
                return Err(Error::invalid("id", "an empty one names nothing"));
            }
        }
        AttachHandle::LinuxPid { .. } | AttachHandle::WindowsContainer { .. } => {}
    }
    Ok(AttachContainer {
        dns_server: request.dns_server.map(parse::resolver).transpose()?,
        dns_domain: request.dns_domain.as_deref().map(parse::domain).transpose()?.flatten(),
        ..request
    })
}

/// A repeated request is the same request, or it is refused.
fn check_same(handle: &AttachmentId, known: &AttachmentRecord, asked: &AttachContainer) -> Result<(), Error> {
    if known.service != asked.service {
        return Err(Error::Conflict(format!(
            "{handle} is attached to service {}; detach it before attaching it to {}",
            known.service, asked.service,
        )));
    }
    if known.isolation != asked.isolation_network {
        return Err(Error::Conflict(format!(
            "{handle} is attached with {}; detach it before attaching it with {}",
            isolation_text(known.isolation.as_deref()),
            isolation_text(asked.isolation_network.as_deref()),
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
