//! Containers in a namespace of their own.

use std::path::PathBuf;

use super::{leases, no_service, reply};
use crate::{
    contract::{AttachmentId, Target},
    desired::{AttachmentRecord, Change, Desired, Handle, Phase},
    engine::{
        Engine, Error,
        leases::{end_rest, pick_service_ip, pick_slice_ip},
        record::Undo,
    },
    protocol::{AttachContainer, AttachHandle, Response},
};

impl Engine {
    pub(super) async fn attach_new(&self, handle: Handle, request: AttachContainer) -> Result<Response, Error> {
        let now = self.now();
        let (undo, record) = self
            .decide(|desired| {
                let record = lease(desired, &request, now)?;
                let mut changes: Vec<Change> = leases(&record).flat_map(|ip| end_rest(desired, ip)).collect();
                changes.push(Change::Attachment(handle.clone(), Some(record.clone())));
                Ok((changes, record))
            })
            .await?;
        match self.plug(&record).await {
            Ok(attached) => {
                let record = self.keep_identity(&handle, attached)?.unwrap_or(record);
                tracing::info!(%handle, service = record.service, ip = %record.service_ip, "attached");
                Ok(reply(&record))
            }
            Err(error) => {
                let cleaned = self.host.detach(&record.id).await;
                self.refuse(&handle, undo, cleaned).await?;
                Err(error)
            }
        }
    }

    /// Takes a refused attachment back; its leases stay while the host could not be cleaned of it.
    pub(super) async fn refuse(&self, handle: &Handle, undo: Undo, cleaned: Result<(), Error>) -> Result<(), Error> {
        match cleaned {
            Ok(()) => self.withdraw(undo).await,
            Err(error) => {
                tracing::warn!(%handle, %error, "the host could not be cleaned of a refused attachment; a pass tries again");
                self.leave(handle).await
            }
        }
    }

    async fn leave(&self, handle: &Handle) -> Result<(), Error> {
        self.record(|desired| {
            let known = desired.attachment(handle).cloned();
            let leaving = known.map(|known| AttachmentRecord { phase: Phase::Leaving, ..known });
            Ok(leaving.map(|record| Change::Attachment(handle.clone(), Some(record))).into_iter().collect())
        })
        .await
    }
}

fn lease(desired: &mut Desired, request: &AttachContainer, now: u64) -> Result<AttachmentRecord, Error> {
    let (id, target) = place(&request.handle)?;
    if desired.service(&request.service).is_none() {
        return Err(no_service(&request.service));
    }
    let service_ip = pick_service_ip(desired, &request.service, now)?;
    let global = request.join_global && desired.overlay().is_some();
    let global_ip = if global { Some(pick_slice_ip(desired, now)?) } else { None };
    Ok(AttachmentRecord {
        id,
        target,
        service: request.service.clone(),
        service_ip,
        global_ip,
        isolation: request.isolation_network.clone(),
        ports: vec![],
        issued: None,
        identity: None,
        namespace: None,
        phase: Phase::Wanted,
    })
}

fn place(handle: &AttachHandle) -> Result<(AttachmentId, Target), Error> {
    match handle {
        AttachHandle::LinuxPid { pid } => Ok((AttachmentId::Process(*pid), Target::Process(*pid))),
        AttachHandle::LinuxNetns { id, path } => {
            Ok((AttachmentId::Namespace(id.clone()), Target::Namespace(PathBuf::from(path))))
        }
        AttachHandle::WindowsContainer { .. } | AttachHandle::GuestManaged { .. } | AttachHandle::HostShared { .. } => {
            Err(Error::Unsupported("this handle names no namespace to plug into".into()))
        }
    }
}
