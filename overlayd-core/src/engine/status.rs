//! Reads. They never wait for the host.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Engine, Error, parse};
use crate::{
    contract,
    desired::{Desired, EndpointSpec, PeerId, PeerRecord, SHARED_SERVICE, ServiceRecord},
    ipam::first_host,
    protocol::{
        DedicatedServiceStatus, Hello, HelloReply, PROTOCOL_VERSION, PeerStatus, ServiceStatus, StatusSnapshot,
    },
};

/// Most events that a connection may ask for by name; there are not as many.
const MOST_EVENTS: usize = 64;

impl Engine {
    pub(super) fn status(&self) -> StatusSnapshot {
        let observed = Arc::clone(&self.observed.borrow());
        let (mut snapshot, peers) = self.recorded();
        if snapshot.interface.as_ref().is_some_and(|name| observed.devices.iter().any(|device| device.as_str() == name))
        {
            snapshot.public_key = Some(self.public_key.to_base64());
        } else {
            snapshot.interface = None;
        }
        snapshot.peers =
            peers.iter().map(|(id, record)| peer_status(id, record, observed.peers.get(&id.public_key))).collect();
        snapshot.peer_count = count(snapshot.peers.len());
        snapshot.service_count = count(snapshot.services.len());
        snapshot
    }

    pub(super) fn hello(&self, hello: &Hello) -> Result<HelloReply, Error> {
        parse::name("client", hello.client.as_deref().unwrap_or_default())?;
        parse::at_most("events", MOST_EVENTS, hello.events.len())?;
        Ok(HelloReply {
            version: PROTOCOL_VERSION,
            build: self.config.build.clone(),
            features: self.config.features.clone(),
            backend: Some(self.host.overlay_name().to_owned()),
        })
    }

    /// What the records say. Peers are shared, not copied, so that the records are held for as short as possible.
    fn recorded(&self) -> (StatusSnapshot, Vec<(PeerId, Arc<PeerRecord>)>) {
        let desired = self.desired();
        let overlay = desired.overlay();
        let services = desired.services().iter().filter(|(name, _)| *name != SHARED_SERVICE).map(|(name, service)| {
            ServiceStatus {
                service: name.clone(),
                mode: service.mode,
                name: service.network.0.clone(),
                subnet: service.block.to_string(),
                attachments: count(desired.members(name).count()),
            }
        });
        let snapshot = StatusSnapshot {
            interface: overlay.map(|overlay| overlay.device.to_string()),
            node_ip: desired.node_ip(),
            public_key: None,
            overlay_cidr: Some(desired.cluster().to_string()),
            slice_cidr: overlay.and_then(|overlay| overlay.slice).map(|slice| slice.to_string()),
            peer_count: 0,
            service_count: 0,
            peers: vec![],
            dedicated_services: desired.services().iter().filter_map(|named| dedicated(&desired, named)).collect(),
            services: services.collect(),
            obstacles: self.host.obstacles(),
            drift: self.drift_status(),
        };
        let peers = desired.peers_of(None).map(|(id, record)| (id.clone(), Arc::clone(record))).collect();
        (snapshot, peers)
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
        peer_count: count(desired.peers_of(Some(name)).count()),
    })
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn peer_status(id: &PeerId, record: &PeerRecord, seen: Option<&contract::PeerStatus>) -> PeerStatus {
    let seen_at = seen.and_then(|seen| seen.endpoint);
    let endpoint = match (&record.endpoint, seen_at) {
        (_, Some(address)) => address.to_string(),
        (EndpointSpec::Address(address), None) => address.to_string(),
        (EndpointSpec::Roaming | EndpointSpec::Name { .. }, None) => String::new(),
    };
    let ranges: Vec<String> = record.allowed_ips.iter().map(ToString::to_string).collect();
    PeerStatus {
        public_key: id.public_key.to_base64(),
        endpoint,
        allowed_ips: ranges.join(","),
        last_handshake_unix_secs: seen.and_then(|seen| seen.last_handshake).map_or(0, unix_seconds),
    }
}

fn unix_seconds(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
