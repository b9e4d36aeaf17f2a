//! Attachments: plugging in, plugging in again, unplugging.

mod container;
mod guest;
mod shared;

use std::{net::IpAddr, sync::atomic::Ordering};

pub(super) use self::guest::{KEEPALIVE, issued_peer};
use super::{
    Engine, Error,
    locks::Key,
    parse,
    services::{Use, left, used},
};
use crate::{
    contract::{self, AttachPlan, Attached, AttachmentId, TargetIdentity},
    desired::{AttachmentRecord, Change, Handle, Phase, ResolverRecord},
    plan,
    protocol::{AttachContainer, AttachHandle, AttachResult, Response},
};

impl Engine {
    pub(super) async fn attach_container(&self, request: AttachContainer) -> Result<Response, Error> {
        let request = checked(request)?;
        let _world = self.world.read().await;
        let _service = self.locks.shared(Key::Service(request.service.clone())).await;
        let Some((handle, _)) = names_of(&request.handle) else {
            return Err(Error::Unsupported("WindowsContainer attach is only supported on Windows".into()));
        };
        let _handle = self.locks.exclusive(Key::Handle(handle.clone())).await;
        self.remember(&request).await?;
        let known = self.replug(&handle).await?;
        if let Some(known) = &known {
            check_same(&handle, known, &request)?;
        }
        let service = request.service.clone();
        let how = if request.ephemeral { Use::Passing } else { Use::Lasting };
        let outcome = match &handle {
            Handle::Guest(id) => self.attach_guest(id, known, request).await,
            Handle::Host(id) => self.attach_host(id, known, request).await,
            Handle::Process(_) | Handle::Namespace(_) | Handle::Compute(_) => match known {
                Some(known) => Ok(reply(&known)),
                None => self.attach_new(handle, request).await,
            },
        };
        // Who joins has the service last as long as they do. Only now: a refused attach leaves nothing to take back from a
        // record that others share.
        if outcome.is_ok() {
            self.record(|desired| Ok(used(desired, &service, how).into_iter().collect())).await?;
        }
        // Refused or not: somebody else's attach may have had its address answered meanwhile.
        self.serve_service(&service).await;
        outcome
    }

    pub(super) async fn detach_container(&self, handle: AttachHandle) -> Result<Response, Error> {
        let _world = self.world.read().await;
        let Some((handle, id)) = names_of(&handle) else { return Ok(Response::Ok) };
        let left = {
            let _handle = self.locks.exclusive(Key::Handle(handle.clone())).await;
            let known = self.desired().attachment(&handle).map(|record| record.service.clone());
            match known {
                Some(_) => self.unplug(&handle).await?,
                None => self.host.detach(&id).await?,
            }
            known
        };
        if let Some(service) = left {
            self.remove_if_left(&service).await?;
        }
        Ok(Response::Ok)
    }

    /// Unplugs what is attached, then forgets it and lets its addresses rest. Its leases stay when the host cannot be
    /// cleaned.
    pub(super) async fn unplug(&self, handle: &Handle) -> Result<(), Error> {
        let Some(record) = self.desired().attachment(handle).cloned() else { return Ok(()) };
        let dropped = match &record.issued {
            Some(issued) => Some((issued, self.drop_issued(issued).await?)),
            None => None,
        };
        if let Handle::Host(_) = handle {
            self.drop_alias(record.service_ip).await?;
        }
        self.host.detach(&record.id).await?;
        self.record(|desired| {
            let mut changes = vec![Change::Attachment(handle.clone(), None)];
            changes.extend(left(desired, &record.service, handle));
            changes.extend(record.issued.clone().map(|issued| Change::Peer(issued, None)));
            for ip in [Some(record.service_ip), record.global_ip].into_iter().flatten() {
                changes.extend(self.rest(desired, ip));
            }
            Ok(changes)
        })
        .await?;
        if let Some((issued, dropped)) = dropped {
            self.issued_is_gone(issued, dropped).await?;
        }
        if let Handle::Guest(id) = handle {
            self.forget_guest_key(id)?;
        }
        self.serve_service(&record.service).await;
        tracing::info!(%handle, service = record.service, ip = %record.service_ip, "detached");
        Ok(())
    }

    /// Finishes or withdraws an attachment that is on record: what a restart and a repeated request need.
    pub(super) async fn replug(&self, handle: &Handle) -> Result<Option<AttachmentRecord>, Error> {
        let Some(record) = self.desired().attachment(handle).cloned() else { return Ok(None) };
        if record.phase == Phase::Leaving {
            return self.unplug(handle).await.map(|()| None);
        }
        let plugged = self.plug(&record).await;
        if let (Some(issued), true) = (&record.issued, record.isolation.is_some()) {
            self.admit(&handle.to_string(), issued, plugged.as_ref().map(|_| ())).await;
        }
        match plugged {
            Ok(attached) => self.keep_identity(handle, attached),
            Err(Error::Host { source: contract::Error::TargetChanged(_) | contract::Error::TargetGone(_), .. }) => {
                self.unplug(handle).await.map(|()| None)
            }
            Err(error) => Err(error),
        }
    }

    /// Has the host be as the record says. An address without a fence and without ports needs nothing of it.
    pub(super) async fn plug(&self, record: &AttachmentRecord) -> Result<Attached, Error> {
        if !record.has_host_objects() {
            return Ok(Attached { identity: TargetIdentity(record.service_ip.to_string()), namespace: None });
        }
        let plan = self.attach_plan(record)?;
        self.host.attach(&plan).await
    }

    fn attach_plan(&self, record: &AttachmentRecord) -> Result<AttachPlan, Error> {
        let desired = self.desired();
        let plan = plan::attachment(&desired, record, self.mtu.load(Ordering::Relaxed), self.config.inbound);
        plan.ok_or_else(|| no_service(&record.service))
    }

    /// Keeps what tells this container from a later one of the same name. Not waited for: a record without it is
    /// completed on the next start.
    fn keep_identity(&self, handle: &Handle, attached: Attached) -> Result<Option<AttachmentRecord>, Error> {
        let mut desired = self.desired();
        let Some(mut record) = desired.attachment(handle).cloned() else { return Ok(None) };
        let identity = Some(attached.identity);
        if record.identity != identity || record.namespace != attached.namespace {
            record.identity = identity;
            record.namespace = attached.namespace;
            let change = Change::Attachment(handle.clone(), Some(record.clone()));
            self.store.commit_in_passing(std::slice::from_ref(&change));
            desired.apply(change);
        }
        Ok(Some(record))
    }

    async fn remember(&self, request: &AttachContainer) -> Result<(), Error> {
        self.record(|desired| {
            let known = desired.resolver();
            let resolver = ResolverRecord {
                server: request.dns_server.or(known.server),
                domain: request.dns_domain.clone().or_else(|| known.domain.clone()),
            };
            let same = resolver == *known;
            Ok(if same { vec![] } else { vec![Change::Resolver(Some(resolver))] })
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

/// What a handle names here; `None` for kinds that this host does not have.
pub(super) fn names_of(handle: &AttachHandle) -> Option<(Handle, AttachmentId)> {
    match handle {
        AttachHandle::LinuxPid { pid } => Some((Handle::Process(*pid), AttachmentId::Process(*pid))),
        AttachHandle::LinuxNetns { id, .. } => {
            Some((Handle::Namespace(id.clone()), AttachmentId::Namespace(id.clone())))
        }
        AttachHandle::GuestManaged { id } => Some((Handle::Guest(id.clone()), AttachmentId::Guest(id.clone()))),
        AttachHandle::HostShared { id } => Some((Handle::Host(id.clone()), AttachmentId::Host(id.clone()))),
        AttachHandle::WindowsContainer { .. } => None,
    }
}

/// A repeated request is the same request, or it is refused.
fn check_same(handle: &Handle, known: &AttachmentRecord, asked: &AttachContainer) -> Result<(), Error> {
    let isolation = |network: &Option<String>| match network {
        Some(network) => format!("isolation network {network}"),
        None => "no isolation network".into(),
    };
    if known.service != asked.service {
        return Err(Error::Conflict(format!(
            "{handle} is attached to service {}; detach it before attaching it to {}",
            known.service, asked.service,
        )));
    }
    if known.isolation != asked.isolation_network {
        return Err(Error::Conflict(format!(
            "{handle} is attached with {}; detach it before attaching it with {}",
            isolation(&known.isolation),
            isolation(&asked.isolation_network),
        )));
    }
    Ok(())
}

fn no_service(service: &str) -> Error {
    Error::Missing(format!("no service bridge for service {service}; call setup_service_overlay() first"))
}

fn reply(record: &AttachmentRecord) -> Response {
    let namespace_guid = record.namespace.as_ref().map(|guid| guid.0.clone());
    Response::Attached(AttachResult { ip: record.service_ip, namespace_guid })
}

fn leases(record: &AttachmentRecord) -> impl Iterator<Item = IpAddr> {
    [Some(record.service_ip), record.global_ip].into_iter().flatten()
}
