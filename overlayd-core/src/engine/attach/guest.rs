//! Guests: VMs that run a WireGuard device of their own, from a config that is handed to them.

use std::{collections::BTreeSet, net::IpAddr, sync::atomic::Ordering};

use crate::{
    contract::{self, AttachmentId, PeerChange, Target},
    desired::{
        AttachmentRecord, Change, Desired, EndpointSpec, Handle, Origin, OverlayRecord, PeerId, PeerRecord, Phase,
    },
    engine::{
        Engine, Error,
        leases::{end_rest, pick_slice_ip},
    },
    keyring::key_name,
    keys::{PrivateKey, PublicKey},
    protocol::{AttachContainer, GuestOverlayConfig, PeerSpec, Response},
};

/// What guests' keys are called by.
const KEY_KIND: &str = "guest";

/// Seconds between keepalives in every config that is handed out.
pub(in crate::engine) const KEEPALIVE: u64 = 25;

/// Where an issued identity was taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Dropped {
    OffDevice,
    /// There was no device at that moment.
    OffNoDevice,
}

impl Engine {
    /// The fence stands before the guest's key is let in.
    pub(super) async fn attach_guest(
        &self,
        id: &str,
        known: Option<AttachmentRecord>,
        request: AttachContainer,
    ) -> Result<Response, Error> {
        let handle = Handle::Guest(id.to_owned());
        let key = self.keyring.load_or_generate(&key_name(KEY_KIND, id))?;
        let record = match known {
            Some(known) => known,
            None => match self.attach_new_guest(id, &handle, key.public_key(), &request).await {
                Ok(record) => record,
                Err(error) => {
                    let refused = self.desired().attachment(&handle).is_none();
                    if refused {
                        self.forget_guest_key(id)?;
                    }
                    return Err(error);
                }
            },
        };
        self.guest_config(&record, &key).map(Response::GuestConfig)
    }

    async fn attach_new_guest(
        &self,
        id: &str,
        handle: &Handle,
        public_key: PublicKey,
        request: &AttachContainer,
    ) -> Result<AttachmentRecord, Error> {
        let now = self.now();
        let issued = PeerId { service: None, public_key };
        let (undo, record) = self
            .decide(|desired| {
                require_overlay(desired, "guest-managed")?;
                // Not of the service's block: that is on the bridge, where nobody would answer for a guest.
                let ip = pick_slice_ip(desired, now)?;
                let id = AttachmentId::Guest(id.to_owned());
                let record = at_address(id, ip, request, Some(issued.clone()));
                let mut changes = end_rest(desired, ip);
                changes.push(Change::Attachment(handle.clone(), Some(record.clone())));
                changes.push(Change::Peer(issued.clone(), Some(issued_peer(ip))));
                Ok((changes, record))
            })
            .await?;
        let outcome = match self.plug(&record).await {
            Ok(_) => self.send_peers(std::slice::from_ref(&issued)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            let cleaned = match self.drop_issued(&issued).await {
                Ok(_) => self.host.detach(&record.id).await,
                Err(error) => Err(error),
            };
            self.refuse(handle, undo, cleaned).await?;
            return Err(error);
        }
        tracing::info!(%handle, service = record.service, ip = %record.service_ip, "a guest is let in");
        Ok(record)
    }

    fn guest_config(&self, record: &AttachmentRecord, key: &PrivateKey) -> Result<GuestOverlayConfig, Error> {
        let desired = self.desired();
        let overlay = require_overlay(&desired, "guest-managed")?;
        let node_ip = desired.node_ip();
        let node = PeerSpec {
            public_key: self.public_key.to_base64(),
            endpoint: node_ip.map(|ip| std::net::SocketAddr::new(ip, overlay.port).to_string()).unwrap_or_default(),
            allowed_ips: desired.cluster().trunc().to_string(),
            persistent_keepalive_secs: KEEPALIVE,
            candidates: vec![],
        };
        Ok(GuestOverlayConfig {
            overlay_ip: record.service_ip,
            prefix_len: desired.slice().prefix_len(),
            private_key: key.reveal_base64().into(),
            public_key: key.public_key().to_base64(),
            listen_port: overlay.port,
            peers: vec![node],
            dns_server: desired.resolver().server,
            dns_domain: desired.resolver().domain.clone(),
        })
    }

    /// Takes an issued identity off the device, before its record is forgotten.
    pub(in crate::engine) async fn drop_issued(&self, issued: &PeerId) -> Result<Dropped, Error> {
        let device = self.desired().overlay().map(|overlay| overlay.device.clone());
        let Some(device) = device else { return Ok(Dropped::OffNoDevice) };
        let changes = [PeerChange::Remove(issued.public_key)];
        let told = self.sent.to(None);
        let mut told = told.lock().await;
        // A device that is not there yet holds nobody.
        let coming_up = self.coming_up.load(Ordering::SeqCst) > 0;
        match self.host.change_peers(&device, &changes).await {
            Err(Error::Host { source: contract::Error::NotFound(_), .. }) if coming_up => {
                return Ok(Dropped::OffNoDevice);
            }
            outcome => outcome?,
        }
        told.note(&changes);
        Ok(Dropped::OffDevice)
    }

    /// The record of the identity is gone. A device that came up before that may have been told of it.
    pub(in crate::engine) async fn issued_is_gone(&self, issued: &PeerId, dropped: Dropped) -> Result<(), Error> {
        self.withheld().remove(&issued.public_key);
        match dropped {
            Dropped::OffDevice => Ok(()),
            Dropped::OffNoDevice => self.send_peers(std::slice::from_ref(issued)).await,
        }
    }

    /// Forgets the keys of guests that no record speaks of: a daemon may end between the record and the key.
    pub(in crate::engine) fn forget_stray_guest_keys(&self) -> Result<(), Error> {
        let kept: BTreeSet<String> = {
            let desired = self.desired();
            let guests = desired.attachments().keys().filter_map(|handle| match handle {
                Handle::Guest(id) => Some(key_name(KEY_KIND, id)),
                _ => None,
            });
            guests.collect()
        };
        Ok(self.keyring.keep(KEY_KIND, |name| kept.contains(name))?)
    }

    pub(super) fn forget_guest_key(&self, id: &str) -> Result<(), Error> {
        Ok(self.keyring.remove(&key_name(KEY_KIND, id))?)
    }
}

/// The peer that an issued identity is to the global device.
pub(in crate::engine) fn issued_peer(ip: IpAddr) -> PeerRecord {
    PeerRecord {
        endpoint: EndpointSpec::Roaming,
        allowed_ips: vec![ip.into()],
        keepalive: None,
        candidates: vec![],
        origin: Origin::Issued,
    }
}

/// The record of something that is not in a namespace of this host's making.
pub(super) fn at_address(
    id: AttachmentId,
    ip: IpAddr,
    request: &AttachContainer,
    issued: Option<PeerId>,
) -> AttachmentRecord {
    AttachmentRecord {
        id,
        target: Target::Address(ip),
        service: request.service.clone(),
        service_ip: ip,
        global_ip: None,
        isolation: request.isolation_network.clone(),
        ports: vec![],
        issued,
        identity: None,
        namespace: None,
        phase: Phase::Wanted,
    }
}

pub(super) fn require_overlay<'a>(desired: &'a Desired, what: &str) -> Result<&'a OverlayRecord, Error> {
    desired.overlay().ok_or_else(|| {
        Error::Missing(format!(
            "{what} attach requires the global overlay to be set up first; call setup_global_overlay()"
        ))
    })
}
