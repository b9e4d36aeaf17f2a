//! One attachment between the record and the host: plugged in, plugged in again, unplugged.

use std::{net::IpAddr, sync::Arc};

use crate::{
    command::AttachCommand,
    contract::{self, AttachPlan, Attached, AttachmentId, Target, TargetIdentity},
    desired::{AttachmentRecord, Change, Desired, Phase},
    engine::{
        Error,
        context::Context,
        global_device::GlobalDevice,
        leases::{end_rest, pick_service_ip, pick_slice_ip},
        ledger::Undo,
        lifetime::left,
        names::NameAnswers,
        peer_sync::PeerSync,
    },
    plan,
};

/// Makes the host agree with the record of an attachment. Callers hold the attachment's lock.
#[derive(Debug)]
pub(in crate::engine) struct AttachmentPlugger {
    context: Arc<Context>,
    pub(super) global: Arc<GlobalDevice>,
    peers: Arc<PeerSync>,
    names: Arc<NameAnswers>,
}

impl AttachmentPlugger {
    pub(in crate::engine) fn new(
        context: &Arc<Context>,
        global: &Arc<GlobalDevice>,
        peers: &Arc<PeerSync>,
        names: &Arc<NameAnswers>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            global: Arc::clone(global),
            peers: Arc::clone(peers),
            names: Arc::clone(names),
        }
    }

    /// Attaches a container in a namespace of its own: the leases are on record before the host is touched.
    pub(super) async fn plug_new(
        &self,
        id: &AttachmentId,
        target: &Target,
        command: &AttachCommand,
    ) -> Result<AttachmentRecord, Error> {
        let now = self.context.now();
        let (undo, record) = self
            .context
            .ledger
            .decide(|desired| {
                let record = lease(desired, (id, target), command, now)?;
                let mut changes: Vec<Change> = leases(&record).flat_map(|ip| end_rest(desired, ip)).collect();
                changes.push(Change::Attachment(id.clone(), Some(record.clone())));
                Ok((changes, record))
            })
            .await?;
        match self.plug(&record).await {
            Ok(attached) => {
                let record = self.note_identity(id, attached).unwrap_or(record);
                tracing::info!(handle = %id, service = record.service, ip = %record.service_ip, "attached");
                Ok(record)
            }
            Err(error) => {
                // A call that ran out of time may still have made its interfaces. The address is free for others only
                // after the host is known to have nothing left of it.
                let cleaned = self.context.host.networks.detach(&record.id).await;
                self.withdraw(id, undo, cleaned).await?;
                Err(error)
            }
        }
    }

    /// Has the host be as the record says. An address without a fence and without ports needs nothing of it.
    pub(super) async fn plug(&self, record: &AttachmentRecord) -> Result<Attached, Error> {
        if !record.has_host_objects() {
            return Ok(Attached { identity: TargetIdentity(record.service_ip.to_string()), namespace: None });
        }
        let plan = self.plan(record)?;
        self.context.host.networks.attach(&plan).await
    }

    /// Finishes or withdraws an attachment that is on record: what a restart and a repeated request need.
    pub(super) async fn replug(&self, handle: &AttachmentId) -> Result<Option<AttachmentRecord>, Error> {
        let Some(record) = self.context.ledger.desired().attachment(handle).cloned() else { return Ok(None) };
        // The host could not be cleaned of it before, so it must not be plugged in: its container was refused.
        if record.phase == Phase::Leaving {
            return self.unplug(handle).await.map(|()| None);
        }
        let plugged = self.plug(&record).await;
        // A guest whose fence does not stand is kept out, also when its address needs nothing else of the host.
        if let Some(issued) = record.issued.as_ref().filter(|_| record.isolation.is_some()) {
            self.peers.admit(&handle.to_string(), issued, plugged.as_ref().map(|_| ())).await;
        }
        match plugged {
            Ok(attached) => Ok(self.note_identity(handle, attached)),
            // A process id is given to another process sooner or later. The identity on record tells the two apart,
            // and the new process must not get the address of the old one.
            Err(Error::Host { source: contract::Error::TargetChanged(_) | contract::Error::TargetGone(_), .. }) => {
                self.unplug(handle).await.map(|()| None)
            }
            Err(error) => Err(error),
        }
    }

    /// Unplugs what is attached, then forgets it and lets its addresses rest. Its leases stay when the host cannot be
    /// cleaned.
    pub(in crate::engine) async fn unplug(&self, handle: &AttachmentId) -> Result<(), Error> {
        let Some(record) = self.context.ledger.desired().attachment(handle).cloned() else { return Ok(()) };
        // The guest's key goes first: once it is off the device there is nothing left to fence.
        let removal = match &record.issued {
            Some(issued) => Some((issued, self.peers.remove_issued(issued).await?)),
            None => None,
        };
        // The alias goes before the fence: for as long as the address is on the device, it is fenced.
        if let AttachmentId::Host(_) = handle {
            self.global.ensure_addresses(Some(record.service_ip)).await?;
        }
        self.context.host.networks.detach(&record.id).await?;
        self.context
            .ledger
            .record(|desired| {
                let mut changes = vec![Change::Attachment(handle.clone(), None)];
                // In the same transaction as the detach: a daemon that ends right after it still knows that the
                // service is to go.
                changes.extend(left(desired, &record.service, handle));
                changes.extend(record.issued.clone().map(|issued| Change::Peer(issued, None)));
                for ip in leases(&record) {
                    changes.extend(self.context.rest(desired, ip));
                }
                Ok(changes)
            })
            .await?;
        if let Some((issued, removal)) = removal {
            self.peers.issued_is_forgotten(issued, removal).await?;
        }
        // After the record: a key without a record is removed by the next start, while a record without its key would
        // give the guest another identity.
        if let AttachmentId::Guest(id) = handle {
            self.context.identity.forget_guest_key(id)?;
        }
        self.names.serve_service(&record.service).await;
        tracing::info!(%handle, service = record.service, ip = %record.service_ip, "detached");
        Ok(())
    }

    /// Takes a refused attachment back; its leases stay while the host could not be cleaned of it.
    pub(super) async fn withdraw(
        &self,
        handle: &AttachmentId,
        undo: Undo,
        cleaned: Result<(), Error>,
    ) -> Result<(), Error> {
        let Err(error) = cleaned else { return self.context.ledger.withdraw(undo).await };
        tracing::warn!(%handle, %error, "the host could not be cleaned of a refused attachment; a pass tries again");
        self.context
            .ledger
            .record(|desired| {
                let Some(known) = desired.attachment(handle).cloned() else { return Ok(vec![]) };
                let leaving = AttachmentRecord { phase: Phase::Leaving, ..known };
                Ok(vec![Change::Attachment(handle.clone(), Some(leaving))])
            })
            .await
    }

    fn plan(&self, record: &AttachmentRecord) -> Result<AttachPlan, Error> {
        let desired = self.context.ledger.desired();
        let plan = plan::attachment(&desired, record, self.global.mtu(), self.context.config.inbound);
        plan.ok_or_else(|| no_service(&record.service))
    }

    /// Keeps what tells this container from a later one of the same name. Not waited for: a record without it is
    /// completed on the next start.
    fn note_identity(&self, handle: &AttachmentId, attached: Attached) -> Option<AttachmentRecord> {
        self.context.ledger.note(|desired| {
            let Some(known) = desired.attachment(handle) else { return (None, None) };
            let identity = Some(attached.identity);
            if known.identity == identity && known.namespace == attached.namespace {
                return (None, Some(known.clone()));
            }
            let record = AttachmentRecord { identity, namespace: attached.namespace, ..known.clone() };
            (Some(Change::Attachment(handle.clone(), Some(record.clone()))), Some(record))
        })
    }
}

fn lease(
    desired: &mut Desired,
    (id, target): (&AttachmentId, &Target),
    command: &AttachCommand,
    now: u64,
) -> Result<AttachmentRecord, Error> {
    if desired.service(&command.service).is_none() {
        return Err(no_service(&command.service));
    }
    let service_ip = pick_service_ip(desired, &command.service, now)?;
    // A container that asks for the overlay before there is one is attached to its service alone.
    let global = command.join_global && desired.overlay().is_some();
    let global_ip = if global { Some(pick_slice_ip(desired, now)?) } else { None };
    Ok(AttachmentRecord {
        id: id.clone(),
        target: target.clone(),
        service: command.service.clone(),
        service_ip,
        global_ip,
        isolation: command.isolation.clone(),
        ports: vec![],
        issued: None,
        identity: None,
        namespace: None,
        phase: Phase::Wanted,
    })
}

fn no_service(service: &str) -> Error {
    Error::Missing(format!("no service bridge for service {service}; call setup_service_overlay() first"))
}

fn leases(record: &AttachmentRecord) -> impl Iterator<Item = IpAddr> {
    [Some(record.service_ip), record.global_ip].into_iter().flatten()
}
