//! Guests: VMs that run a WireGuard device of their own, from a config that is handed to them.

use std::{net::IpAddr, sync::Arc};

use super::AttachmentPlugger;
use crate::{
    command::AttachCommand,
    contract::{AttachmentId, Target},
    desired::{
        AttachmentRecord, Change, Desired, DeviceScope, EndpointSpec, Origin, OverlayRecord, PeerId, PeerRecord, Phase,
    },
    engine::{
        Error,
        context::Context,
        leases::{end_rest, pick_slice_ip},
        peer_sync::PeerSync,
    },
    keys::{PrivateKey, PublicKey},
    protocol::{GuestOverlayConfig, PeerSpec, Response},
};

/// Seconds between keepalives in every config that is handed out.
pub(in crate::engine) const KEEPALIVE_SECS: u64 = 25;

/// Attaches guests.
#[derive(Debug)]
pub(super) struct GuestAttachments {
    context: Arc<Context>,
    peers: Arc<PeerSync>,
    plugger: Arc<AttachmentPlugger>,
}

impl GuestAttachments {
    pub(super) fn new(context: &Arc<Context>, peers: &Arc<PeerSync>, plugger: &Arc<AttachmentPlugger>) -> Self {
        Self { context: Arc::clone(context), peers: Arc::clone(peers), plugger: Arc::clone(plugger) }
    }

    /// Attaches the guest, and answers with its config. A repeated request gets the same config.
    pub(super) async fn attach(
        &self,
        id: &str,
        known: Option<AttachmentRecord>,
        command: &AttachCommand,
    ) -> Result<Response, Error> {
        let handle = AttachmentId::Guest(id.to_owned());
        // On disk before the guest is on record, so that a repeated request after a crash answers with the same key.
        let key = self.context.identity.guest_key(id)?;
        let record = match known {
            Some(known) => known,
            None => match self.let_in(id, &handle, key.public_key(), command).await {
                Ok(record) => record,
                Err(error) => {
                    // One that could not be withdrawn is still on record, and needs its key until it is.
                    let is_withdrawn = self.context.ledger.desired().attachment(&handle).is_none();
                    if is_withdrawn {
                        self.context.identity.forget_guest_key(id)?;
                    }
                    return Err(error);
                }
            },
        };
        self.config(&record, &key).map(Response::GuestConfig)
    }

    /// The fence stands before the guest's key is let in.
    async fn let_in(
        &self,
        id: &str,
        handle: &AttachmentId,
        public_key: PublicKey,
        command: &AttachCommand,
    ) -> Result<AttachmentRecord, Error> {
        let now = self.context.now();
        let issued = PeerId { scope: DeviceScope::Global, public_key };
        self.peers.keep_out(&issued);
        let decided = self
            .context
            .ledger
            .decide(|desired| {
                require_overlay(desired, "guest-managed")?;
                // Not of the service's block: that is on the bridge, where no one would answer for a guest.
                let ip = pick_slice_ip(desired, now)?;
                let id = AttachmentId::Guest(id.to_owned());
                let record = at_address(id, ip, command, Some(issued.clone()));
                let mut changes = end_rest(desired, ip);
                changes.push(Change::Attachment(handle.clone(), Some(record.clone())));
                changes.push(Change::Peer(issued.clone(), Some(issued_peer(ip))));
                Ok((changes, record))
            })
            .await;
        let (undo, record) = decided.inspect_err(|_| self.peers.has_no_record(&issued))?;
        let outcome = match self.plugger.plug(&record).await {
            Ok(_) => self.peers.let_in(&issued).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            // In the reverse order: the key is off the device before the fence falls.
            let cleaned = match self.peers.remove_issued(&issued).await {
                Ok(_) => self.context.host.networks.detach(&record.id).await,
                Err(error) => Err(error),
            };
            let is_clean = cleaned.is_ok();
            self.plugger.withdraw(handle, undo, cleaned).await?;
            // What could not be cleaned is on record as leaving, and kept out until it is gone.
            if is_clean {
                self.peers.has_no_record(&issued);
            }
            return Err(error);
        }
        tracing::info!(%handle, service = record.service, ip = %record.service_ip, "a guest is let in");
        Ok(record)
    }

    fn config(&self, record: &AttachmentRecord, key: &PrivateKey) -> Result<GuestOverlayConfig, Error> {
        let desired = self.context.ledger.desired();
        let overlay = require_overlay(&desired, "guest-managed")?;
        let node_ip = desired.node_ip();
        let node = PeerSpec {
            public_key: self.context.identity.public_key().to_base64(),
            endpoint: node_ip.map(|ip| std::net::SocketAddr::new(ip, overlay.port).to_string()).unwrap_or_default(),
            allowed_ips: desired.cluster().trunc().to_string(),
            persistent_keepalive_secs: KEEPALIVE_SECS,
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
}

/// The peer that an issued identity is to the global device.
pub(in crate::engine) fn issued_peer(ip: IpAddr) -> PeerRecord {
    PeerRecord {
        endpoint: EndpointSpec::Roaming,
        allowed_ips: vec![ip.into()],
        // The guest sends keepalives; this node does not know where it is until it has spoken.
        keepalive: None,
        candidates: vec![],
        origin: Origin::Issued,
    }
}

/// The record of something that is not in a namespace of this host's making.
pub(super) fn at_address(
    id: AttachmentId,
    ip: IpAddr,
    command: &AttachCommand,
    issued: Option<PeerId>,
) -> AttachmentRecord {
    AttachmentRecord {
        id,
        target: Target::Address(ip),
        service: command.service.clone(),
        service_ip: ip,
        global_ip: None,
        isolation: command.isolation.clone(),
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
