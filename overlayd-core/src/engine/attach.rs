//! Containers: plugging in, plugging in again, unplugging.

use std::{net::IpAddr, path::PathBuf, sync::atomic::Ordering};

use super::{
    Engine, Error,
    leases::{end_rest, pick_service_ip, pick_slice_ip},
    locks::Key,
};
use crate::{
    contract::{self, AttachPlan, Attached, AttachmentId, Target},
    desired::{AttachmentRecord, Change, Desired, Handle, Phase, ResolverRecord},
    plan,
    protocol::{AttachContainer, AttachHandle, AttachResult, Response},
};

/// A container to plug in.
struct Asked {
    handle: Handle,
    id: AttachmentId,
    target: Target,
    service: String,
    global: Global,
    ephemeral: bool,
}

/// Whether the container is to have a leg on the whole overlay.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Global {
    Join,
    Stay,
}

impl Engine {
    pub(super) async fn attach_container(&self, request: AttachContainer) -> Result<Response, Error> {
        if let Some(network) = &request.isolation_network {
            return Err(Error::Unsupported(format!(
                "isolation_network `{network}` is not supported yet, and a container is not attached without the \
                 isolation that was asked for"
            )));
        }
        let resolver = ResolverRecord { server: request.dns_server, domain: request.dns_domain.clone() };
        let asked = asked(request)?;
        let _world = self.world.read().await;
        let _service = self.locks.shared(Key::Service(asked.service.clone())).await;
        let _handle = self.locks.exclusive(Key::Handle(asked.handle.clone())).await;
        self.remember(resolver).await?;
        match self.attach_again(&asked).await? {
            Some(reply) => Ok(reply),
            None => self.attach_new(asked).await,
        }
    }

    pub(super) async fn detach_container(&self, handle: AttachHandle) -> Result<Response, Error> {
        let _world = self.world.read().await;
        let Some((handle, id)) = names_of(&handle) else { return Ok(Response::Ok) };
        let emptied = {
            let _handle = self.locks.exclusive(Key::Handle(handle.clone())).await;
            let known = self.desired().attachment(&handle).cloned();
            match known {
                Some(record) => {
                    self.unplug(&handle).await?;
                    record.ephemeral.then_some(record.service)
                }
                None => self.host.detach(&id).await.map(|()| None)?,
            }
        };
        if let Some(service) = emptied {
            self.remove_if_empty(&service).await?;
        }
        Ok(Response::Ok)
    }

    /// Unplugs an attached container, then forgets it and lets its addresses rest. Its leases stay when the host
    /// cannot be cleaned.
    pub(super) async fn unplug(&self, handle: &Handle) -> Result<(), Error> {
        let Some(record) = self.desired().attachment(handle).cloned() else { return Ok(()) };
        self.host.detach(&record.id).await?;
        self.record(|desired| {
            let mut changes = vec![Change::Attachment(handle.clone(), None)];
            for ip in [Some(record.service_ip), record.global_ip].into_iter().flatten() {
                changes.extend(self.rest(desired, ip));
            }
            Ok(changes)
        })
        .await?;
        tracing::info!(%handle, service = record.service, ip = %record.service_ip, "a container is detached");
        Ok(())
    }

    /// Finishes or withdraws an attachment that is on record: what a restart and a repeated request need.
    pub(super) async fn replug(&self, handle: &Handle) -> Result<Option<AttachmentRecord>, Error> {
        let Some(record) = self.desired().attachment(handle).cloned() else { return Ok(None) };
        if record.phase == Phase::Leaving {
            return self.unplug(handle).await.map(|()| None);
        }
        match self.plug(&record).await {
            Ok(attached) => self.keep_identity(handle, attached).await,
            Err(Error::Host { source: contract::Error::TargetChanged(_) | contract::Error::TargetGone(_), .. }) => {
                self.unplug(handle).await.map(|()| None)
            }
            Err(error) => Err(error),
        }
    }

    async fn attach_again(&self, asked: &Asked) -> Result<Option<Response>, Error> {
        let Some(record) = self.replug(&asked.handle).await? else { return Ok(None) };
        if record.service != asked.service {
            return Err(Error::Conflict(format!(
                "{} is attached to service {}; detach it before attaching it to {}",
                asked.handle, record.service, asked.service,
            )));
        }
        Ok(Some(reply(&record)))
    }

    async fn attach_new(&self, asked: Asked) -> Result<Response, Error> {
        let handle = asked.handle.clone();
        let now = self.now();
        let (undo, record) = self
            .decide(|desired| {
                let record = lease(desired, asked, now)?;
                let mut changes: Vec<Change> = leases(&record).flat_map(|ip| end_rest(desired, ip)).collect();
                changes.push(Change::Attachment(handle.clone(), Some(record.clone())));
                Ok((changes, record))
            })
            .await?;
        match self.plug(&record).await {
            Ok(attached) => {
                let record = self.keep_identity(&handle, attached).await?.unwrap_or(record);
                tracing::info!(%handle, service = record.service, ip = %record.service_ip, "a container is attached");
                Ok(reply(&record))
            }
            Err(error) => {
                if self.host.detach(&record.id).await.is_ok() {
                    self.withdraw(undo).await?;
                } else {
                    self.leave(&handle).await?;
                }
                Err(error)
            }
        }
    }

    async fn plug(&self, record: &AttachmentRecord) -> Result<Attached, Error> {
        let plan = self.attach_plan(record)?;
        self.host.attach(&plan).await
    }

    fn attach_plan(&self, record: &AttachmentRecord) -> Result<AttachPlan, Error> {
        let desired = self.desired();
        let plan = plan::attachment(&desired, record, self.mtu.load(Ordering::Relaxed))?;
        plan.ok_or_else(|| no_service(&record.service))
    }

    /// Keeps what tells this container from a later one of the same name. Not waited for: a record without it is
    /// completed on the next start.
    async fn keep_identity(&self, handle: &Handle, attached: Attached) -> Result<Option<AttachmentRecord>, Error> {
        let mut desired = self.desired();
        let Some(mut record) = desired.attachment(handle).cloned() else { return Ok(None) };
        let identity = Some(attached.identity);
        if record.identity != identity || record.namespace != attached.namespace {
            record.identity = identity;
            record.namespace = attached.namespace;
            let change = Change::Attachment(handle.clone(), Some(record.clone()));
            drop(self.store.commit(std::slice::from_ref(&change)));
            desired.apply(change);
        }
        Ok(Some(record))
    }

    /// Keeps the leases of an attachment that failed and could not be cleaned, until it can.
    async fn leave(&self, handle: &Handle) -> Result<(), Error> {
        self.record(|desired| {
            let known = desired.attachment(handle).cloned();
            let leaving = known.map(|known| AttachmentRecord { phase: Phase::Leaving, ..known });
            Ok(leaving.map(|record| Change::Attachment(handle.clone(), Some(record))).into_iter().collect())
        })
        .await
    }

    async fn remember(&self, asked: ResolverRecord) -> Result<(), Error> {
        self.record(|desired| {
            let known = desired.resolver();
            let resolver = ResolverRecord {
                server: asked.server.or(known.server),
                domain: asked.domain.or_else(|| known.domain.clone()),
            };
            let same = resolver == *known;
            Ok(if same { vec![] } else { vec![Change::Resolver(Some(resolver))] })
        })
        .await
    }
}

fn asked(request: AttachContainer) -> Result<Asked, Error> {
    let (handle, id, target) = match request.handle {
        AttachHandle::LinuxPid { pid } => (Handle::Process(pid), AttachmentId::Process(pid), Target::Process(pid)),
        AttachHandle::LinuxNetns { id, path } => {
            (Handle::Namespace(id.clone()), AttachmentId::Namespace(id), Target::Namespace(PathBuf::from(path)))
        }
        AttachHandle::WindowsContainer { .. } => {
            return Err(Error::Unsupported("WindowsContainer attach is only supported on Windows".into()));
        }
        AttachHandle::GuestManaged { .. } => {
            return Err(Error::Unsupported("guest_managed attach is not supported yet".into()));
        }
        AttachHandle::HostShared { .. } => {
            return Err(Error::Unsupported("host_shared attach is not supported yet".into()));
        }
    };
    let global = if request.join_global { Global::Join } else { Global::Stay };
    Ok(Asked { handle, id, target, service: request.service, global, ephemeral: request.ephemeral })
}

/// What a handle names here; `None` for kinds that this daemon never attaches.
fn names_of(handle: &AttachHandle) -> Option<(Handle, AttachmentId)> {
    match handle {
        AttachHandle::LinuxPid { pid } => Some((Handle::Process(*pid), AttachmentId::Process(*pid))),
        AttachHandle::LinuxNetns { id, .. } => {
            Some((Handle::Namespace(id.clone()), AttachmentId::Namespace(id.clone())))
        }
        AttachHandle::WindowsContainer { .. } | AttachHandle::GuestManaged { .. } | AttachHandle::HostShared { .. } => {
            None
        }
    }
}

fn lease(desired: &mut Desired, asked: Asked, now: u64) -> Result<AttachmentRecord, Error> {
    if desired.service(&asked.service).is_none() {
        return Err(no_service(&asked.service));
    }
    let service_ip = pick_service_ip(desired, &asked.service, now)?;
    let global = asked.global == Global::Join && desired.overlay().is_some();
    let global_ip = if global { Some(pick_slice_ip(desired, now)?) } else { None };
    Ok(AttachmentRecord {
        id: asked.id,
        target: asked.target,
        service: asked.service,
        service_ip,
        global_ip,
        ephemeral: asked.ephemeral,
        identity: None,
        namespace: None,
        phase: Phase::Wanted,
    })
}

fn leases(record: &AttachmentRecord) -> impl Iterator<Item = IpAddr> {
    [Some(record.service_ip), record.global_ip].into_iter().flatten()
}

fn no_service(service: &str) -> Error {
    Error::Missing(format!("no service bridge for service {service}; call setup_service_overlay() first"))
}

fn reply(record: &AttachmentRecord) -> Response {
    let namespace_guid = record.namespace.as_ref().map(|guid| guid.0.clone());
    Response::Attached(AttachResult { ip: record.service_ip, namespace_guid })
}
