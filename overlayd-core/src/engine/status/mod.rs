//! What the daemon says of itself. Reads never wait for the host.

mod listing;

use std::sync::Arc;

use self::listing::PeerListing;
use super::{context::Context, health::EngineHealth, observer::DeviceObserver};
use crate::{
    contract::Finding,
    desired::{Desired, DeviceScope, SHARED_SERVICE, ServiceRecord},
    ipam::first_host,
    protocol::{
        DedicatedServiceStatus, FindingStatus, HelloReply, ListedPeers, PROTOCOL_VERSION, ServiceStatus, StatusSnapshot,
    },
};

/// Answers `status` and `hello`.
#[derive(Debug)]
pub(super) struct StatusReader {
    context: Arc<Context>,
    observer: Arc<DeviceObserver>,
    health: Arc<EngineHealth>,
    listing: Arc<PeerListing>,
}

impl StatusReader {
    pub(super) fn new(context: &Arc<Context>, observer: &Arc<DeviceObserver>, health: &Arc<EngineHealth>) -> Self {
        Self {
            context: Arc::clone(context),
            observer: Arc::clone(observer),
            health: Arc::clone(health),
            listing: Arc::default(),
        }
    }

    pub(super) async fn status(&self) -> StatusSnapshot {
        let seen = self.observer.last();
        // The records are held for as short as possible: decisions of other requests wait for them. The peers are
        // listed after that.
        let (mut snapshot, peers) = {
            let desired = self.context.ledger.desired();
            (self.recorded(&desired), self.listing.take(&desired, &seen.peers))
        };
        let interface = snapshot.interface.take();
        // An overlay that is on record has no interface for as long as the device is not there.
        snapshot.interface = interface.filter(|name| seen.devices.iter().any(|device| device.as_str() == name));
        snapshot.public_key = snapshot.interface.as_ref().map(|_| self.context.identity.public_key().to_base64());
        snapshot.peers = self.listing.list(peers, &seen.peers).await;
        snapshot.peer_count = count(snapshot.peers.len());
        snapshot.service_count = count(snapshot.services.len());
        snapshot
    }

    pub(super) fn hello(&self) -> HelloReply {
        HelloReply {
            version: PROTOCOL_VERSION,
            build: self.context.config.build.version.clone(),
            features: self.context.config.build.features.clone(),
            backend: Some(self.context.host.devices.backend_name().to_owned()),
        }
    }

    /// What the records say, without the peers.
    fn recorded(&self, desired: &Desired) -> StatusSnapshot {
        let overlay = desired.overlay();
        let services = desired.services().iter().filter(|(name, _)| *name != SHARED_SERVICE);
        StatusSnapshot {
            interface: overlay.map(|overlay| overlay.device.to_string()),
            node_ip: desired.node_ip(),
            public_key: None,
            overlay_cidr: Some(desired.cluster().to_string()),
            slice_cidr: overlay.and_then(|overlay| overlay.slice).map(|slice| slice.to_string()),
            peer_count: 0,
            service_count: 0,
            peers: ListedPeers::default(),
            dedicated_services: desired.services().iter().filter_map(|named| dedicated(desired, named)).collect(),
            services: services.map(|(name, service)| service_status(desired, name, service)).collect(),
            obstacles: self.obstacles(),
            drift: self.health.drift(),
            findings: self.findings().into_iter().map(finding_status).collect(),
        }
    }

    /// Rules of other programs that may stop packets, as text.
    fn obstacles(&self) -> Vec<String> {
        let findings = self.context.host.networks.findings().into_iter();
        findings.filter(|finding| finding.code.is_obstacle()).map(|finding| finding.text).collect()
    }

    /// Everything that an operator should know of: what backends found on the host, and what the last pass could not do.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = self.context.host.networks.findings();
        findings.extend(self.health.findings());
        findings
    }
}

/// A finding as it travels: words, so that a client of an older release can show those that it does not know.
fn finding_status(finding: Finding) -> FindingStatus {
    FindingStatus {
        code: finding.code.to_string(),
        severity: finding.severity.to_string(),
        subject: finding.subject.to_string(),
        text: finding.text,
        remedy: finding.remedy,
    }
}

fn service_status(desired: &Desired, name: &str, service: &ServiceRecord) -> ServiceStatus {
    ServiceStatus {
        service: name.to_owned(),
        mode: service.mode,
        name: service.network.0.clone(),
        subnet: Some(service.block.to_string()),
        attachments: count(desired.members(name).count()),
    }
}

fn dedicated(desired: &Desired, (name, service): (&String, &ServiceRecord)) -> Option<DedicatedServiceStatus> {
    let device = service.dedicated.as_ref()?;
    Some(DedicatedServiceStatus {
        service: name.clone(),
        interface: device.device.to_string(),
        public_key: device.public_key.to_base64(),
        listen_port: device.port,
        overlay_ip: first_host(&service.block),
        subnet: service.block.to_string(),
        peer_count: count(desired.peers_of(DeviceScope::service(name)).count()),
    })
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
