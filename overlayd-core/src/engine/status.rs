//! Reads. They never wait for the host.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use ipnet::IpNet;
use tokio::task::JoinError;

use super::{Engine, Error, observe::Observed, parse};
use crate::{
    contract,
    desired::{Desired, EndpointSpec, PeerRecord, SHARED_SERVICE, ServiceRecord},
    ipam::first_host,
    keys::PublicKey,
    protocol::{
        DedicatedServiceStatus, Hello, HelloReply, ListedPeers, PROTOCOL_VERSION, PeerStatus, ServiceStatus,
        StatusSnapshot,
    },
};

/// Most events that a connection may ask for by name; there are not as many.
const MOST_EVENTS: usize = 64;

/// Peers beyond this number are listed by a thread of their own, so that nobody else waits meanwhile.
const MOST_AT_ONCE: usize = 256;

/// The peers as `status` listed them last, and what they were listed from.
#[derive(Debug, Default)]
pub(super) struct Listing(Mutex<Listed>);

#[derive(Debug, Default)]
struct Listed {
    from: Source,
    peers: ListedPeers,
}

/// The version of the peers on record, and those that the device has. While both are the same, so is the list.
#[derive(Debug, Default)]
struct Source(u64, Arc<Vec<contract::PeerStatus>>);

impl Engine {
    pub(super) async fn status(&self) -> StatusSnapshot {
        let observed = Arc::clone(&self.observed.borrow());
        let (mut snapshot, peers) = self.recorded(&observed);
        if snapshot.interface.as_ref().is_some_and(|name| observed.devices.iter().any(|device| device.as_str() == name))
        {
            snapshot.public_key = Some(self.public_key.to_base64());
        } else {
            snapshot.interface = None;
        }
        snapshot.peers = match peers {
            Peers::Listed(peers) => peers,
            Peers::Recorded(_, peers) if peers.len() <= MOST_AT_ONCE => list(&peers, &observed.peers).into(),
            Peers::Recorded(version, peers) => {
                let (listing, from) = (Arc::clone(&self.listing), Source(version, Arc::clone(&observed.peers)));
                let listed = tokio::task::spawn_blocking(move || listing.renew(from, &peers)).await;
                match listed.map_err(JoinError::try_into_panic) {
                    Ok(peers) => peers,
                    // It goes on where the request is.
                    Err(Ok(panic)) => std::panic::resume_unwind(panic),
                    // The runtime ends, and this request with it.
                    Err(Err(_cancelled)) => std::future::pending().await,
                }
            }
        };
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
    fn recorded(&self, observed: &Observed) -> (StatusSnapshot, Peers) {
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
            peers: ListedPeers::default(),
            dedicated_services: desired.services().iter().filter_map(|named| dedicated(&desired, named)).collect(),
            services: services.collect(),
            obstacles: self.host.obstacles(),
            drift: self.drift_status(),
        };
        let version = desired.peers_version();
        let peers = match self.listing.of(version, &observed.peers) {
            Some(peers) => Peers::Listed(peers),
            None => {
                let peers = desired.peers_of(None).map(|(id, record)| (id.public_key, Arc::clone(record)));
                Peers::Recorded(version, peers.collect())
            }
        };
        (snapshot, peers)
    }
}

/// The peers of the global device.
enum Peers {
    /// As they were listed before, for nothing about them has changed.
    Listed(ListedPeers),
    /// As they are on record, with the version of the records.
    Recorded(u64, Vec<(PublicKey, Arc<PeerRecord>)>),
}

impl Listing {
    /// The list that was made from the same.
    fn of(&self, version: u64, seen: &Arc<Vec<contract::PeerStatus>>) -> Option<ListedPeers> {
        let listed = self.lock();
        let same = listed.from.0 == version && Arc::ptr_eq(&listed.from.1, seen);
        same.then(|| listed.peers.clone())
    }

    /// Makes the list anew.
    fn renew(&self, from: Source, peers: &[(PublicKey, Arc<PeerRecord>)]) -> ListedPeers {
        let peers = ListedPeers::from(list(peers, &from.1));
        let before = std::mem::replace(&mut *self.lock(), Listed { from, peers: peers.clone() });
        // It takes long to free, and nobody has to wait for that.
        drop(before);
        peers
    }

    fn lock(&self) -> MutexGuard<'_, Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both are in the order of their keys.
fn list(peers: &[(PublicKey, Arc<PeerRecord>)], seen: &[contract::PeerStatus]) -> Vec<PeerStatus> {
    let mut seen = seen.iter().peekable();
    let listed = peers.iter().map(|(key, record)| {
        while seen.next_if(|seen| seen.public_key < *key).is_some() {}
        peer_status(key, record, seen.next_if(|seen| seen.public_key == *key))
    });
    listed.collect()
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

fn peer_status(key: &PublicKey, record: &PeerRecord, seen: Option<&contract::PeerStatus>) -> PeerStatus {
    let seen_at = seen.and_then(|seen| seen.endpoint);
    let endpoint = match (&record.endpoint, seen_at) {
        (_, Some(address)) => address.to_string(),
        (EndpointSpec::Address(address), None) => address.to_string(),
        (EndpointSpec::Roaming | EndpointSpec::Name { .. }, None) => String::new(),
    };
    PeerStatus {
        public_key: key.to_base64(),
        endpoint,
        allowed_ips: comma_separated(&record.allowed_ips),
        last_handshake_unix_secs: seen.and_then(|seen| seen.last_handshake).map_or(0, unix_seconds),
    }
}

fn comma_separated(ranges: &[IpNet]) -> String {
    match ranges {
        // Mostly there is one.
        [range] => range.to_string(),
        ranges => ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

fn unix_seconds(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
