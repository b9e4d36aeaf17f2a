//! Everything that was asked for: the only thing overlayd remembers. The lease *is* the attachment, so there is one
//! book of addresses and nothing next to it that could leak.

mod ipam;
mod record;
mod scope;
pub(crate) mod undo;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
pub use record::*;
pub use scope::*;

use self::ipam::Ipam;
use crate::{
    contract::{AttachmentId, Guid},
    ipam::first_host,
    keys::PublicKey,
    protocol::OverlayMode,
};

/// The range of the overlay until a set-up names one.
pub const DEFAULT_CLUSTER: &str = "10.200.0.0/16";

/// All records, with the indexes that decisions need. It changes by [`Desired::apply`] alone.
#[derive(Debug, Default)]
pub struct Desired {
    node: NodeRecord,
    overlay: Option<OverlayRecord>,
    resolver: ResolverRecord,
    services: BTreeMap<String, ServiceRecord>,
    attachments: BTreeMap<AttachmentId, AttachmentRecord>,
    allocations: BTreeMap<IpAddr, String>,
    rests: BTreeMap<IpAddr, u64>,
    rests_by_end: BTreeSet<(u64, IpAddr)>,
    peers: BTreeMap<PeerId, Arc<PeerRecord>>,
    peers_version: u64,
    dns: BTreeMap<String, BTreeSet<IpAddr>>,
    edges: BTreeMap<String, EdgeRecord>,
    dedicated_ports: BTreeMap<String, u16>,
    ipam: Ipam,
    /// Which peer holds a range, per device.
    routes: BTreeMap<(DeviceScope, IpNet), PublicKey>,
    members: BTreeMap<String, BTreeSet<AttachmentId>>,
    published: BTreeSet<AttachmentId>,
}

impl Desired {
    /// The state that `records` describe, in any order.
    pub fn load(records: impl IntoIterator<Item = Change>) -> Self {
        let mut desired = Self::default();
        let (first, then): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|change| matches!(change, Change::Overlay(_) | Change::Service(..)));
        for change in first.into_iter().chain(then) {
            desired.apply(change);
        }
        desired
    }

    /// Makes one change and returns the one that takes it back.
    pub fn apply(&mut self, change: Change) -> Change {
        match change {
            Change::Node(record) => Change::Node(Some(std::mem::replace(&mut self.node, record.unwrap_or_default()))),
            Change::Resolver(record) => {
                Change::Resolver(Some(std::mem::replace(&mut self.resolver, record.unwrap_or_default())))
            }
            Change::Overlay(record) => {
                let old = std::mem::replace(&mut self.overlay, record);
                self.rebuild_slice();
                Change::Overlay(old)
            }
            Change::Service(name, record) => self.apply_service(name, record),
            Change::Attachment(handle, record) => self.apply_attachment(handle, record),
            Change::Allocation(ip, record) => {
                self.ipam.set_used(ip, record.is_some());
                let old = swap(&mut self.allocations, ip, record);
                Change::Allocation(ip, old)
            }
            Change::Rest(ip, until) => {
                self.ipam.set_rest(ip, until);
                let old = swap(&mut self.rests, ip, until);
                old.map(|old| self.rests_by_end.remove(&(old, ip)));
                self.rests_by_end.extend(until.map(|until| (until, ip)));
                Change::Rest(ip, old)
            }
            Change::Peer(id, record) => self.apply_peer(id, record),
            Change::Dns(name, record) => {
                let old = swap(&mut self.dns, name.clone(), record);
                Change::Dns(name, old)
            }
            Change::Edge(name, record) => {
                let ip = record.as_ref().map(|record| record.ip);
                let old = swap(&mut self.edges, name.clone(), record);
                old.iter().for_each(|old| self.ipam.set_used(old.ip, false));
                ip.into_iter().for_each(|ip| self.ipam.set_used(ip, true));
                Change::Edge(name, old)
            }
            Change::DedicatedPort(name, port) => {
                let old = swap(&mut self.dedicated_ports, name.clone(), port);
                Change::DedicatedPort(name, old)
            }
        }
    }

    /// Who this node is.
    pub fn node(&self) -> &NodeRecord {
        &self.node
    }

    /// The global overlay, once asked for.
    pub fn overlay(&self) -> Option<&OverlayRecord> {
        self.overlay.as_ref()
    }

    /// The remembered resolver.
    pub fn resolver(&self) -> &ResolverRecord {
        &self.resolver
    }

    /// The whole overlay's range; [`DEFAULT_CLUSTER`] until one is given.
    pub fn cluster(&self) -> IpNet {
        self.overlay.as_ref().map_or_else(default_cluster, |overlay| overlay.cluster)
    }

    /// The range that the node's own address and the global leases come from.
    pub fn slice(&self) -> IpNet {
        self.overlay.as_ref().and_then(|overlay| overlay.slice).unwrap_or_else(|| self.cluster())
    }

    /// The node's overlay address, once there is an overlay.
    pub fn node_ip(&self) -> Option<IpAddr> {
        self.overlay.as_ref().map(|_| first_host(&self.slice()))
    }

    /// A service by name.
    pub fn service(&self, name: &str) -> Option<&ServiceRecord> {
        self.services.get(name)
    }

    /// All services.
    pub fn services(&self) -> &BTreeMap<String, ServiceRecord> {
        &self.services
    }

    /// An attachment.
    pub fn attachment(&self, id: &AttachmentId) -> Option<&AttachmentRecord> {
        self.attachments.get(id)
    }

    /// The attachment that `id` means: itself, or the one whose namespace the host has given this name to. A Windows
    /// container is attached by its own id and detached by the GUID of its namespace.
    pub fn resolve_attachment(&self, id: AttachmentId) -> AttachmentId {
        let AttachmentId::Compute(text) = &id else { return id };
        if self.attachments.contains_key(&id) {
            return id;
        }
        let guid = Guid(text.clone());
        let mut owners = self.attachments.iter().filter(|(_, record)| record.namespace.as_ref() == Some(&guid));
        match owners.next() {
            Some((owner, _)) => owner.clone(),
            None => AttachmentId::ComputeNamespace(guid),
        }
    }

    /// All attachments.
    pub fn attachments(&self) -> &BTreeMap<AttachmentId, AttachmentRecord> {
        &self.attachments
    }

    /// The attachments of a service.
    pub fn members(&self, service: &str) -> impl Iterator<Item = &AttachmentId> {
        self.members.get(service).into_iter().flatten()
    }

    /// The services that something is attached to, set up or not.
    pub fn services_with_members(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Addresses leased by `allocate_ip`.
    pub fn allocations(&self) -> &BTreeMap<IpAddr, String> {
        &self.allocations
    }

    /// Addresses that rest, and until when.
    pub fn rests(&self) -> &BTreeMap<IpAddr, u64> {
        &self.rests
    }

    /// Addresses whose rest is over at `now` (Unix seconds).
    pub fn rested(&self, now: u64) -> impl Iterator<Item = IpAddr> {
        self.rests_by_end.iter().take_while(move |(until, _)| *until <= now).map(|(_, ip)| *ip)
    }

    /// A peer.
    pub fn peer(&self, id: &PeerId) -> Option<&Arc<PeerRecord>> {
        self.peers.get(id)
    }

    /// All peers.
    pub fn peers(&self) -> &BTreeMap<PeerId, Arc<PeerRecord>> {
        &self.peers
    }

    /// Another one whenever a peer has changed.
    pub fn peers_version(&self) -> u64 {
        self.peers_version
    }

    /// The peers of one device, in the order of their keys.
    pub fn peers_of(&self, scope: DeviceScope) -> impl Iterator<Item = (&PeerId, &Arc<PeerRecord>)> {
        let first = PeerId { scope: scope.clone(), public_key: PublicKey::from_bytes([0; 32]) };
        self.peers.range(first..).take_while(move |(id, _)| id.scope == scope)
    }

    /// Addresses that processes in the host's own namespace hold on the global device.
    pub fn host_aliases(&self) -> impl Iterator<Item = IpAddr> {
        let hosts = self.attachments.range(AttachmentId::Host(String::new())..);
        hosts.take_while(|(handle, _)| matches!(handle, AttachmentId::Host(_))).map(|(_, record)| record.service_ip)
    }

    /// The attachments that ports of the host lead to.
    pub fn published(&self) -> impl Iterator<Item = (&AttachmentId, &AttachmentRecord)> {
        self.published.iter().filter_map(|handle| self.attachments.get_key_value(handle))
    }

    /// The peer of a device that holds exactly `range`.
    pub fn route_holder(&self, scope: &DeviceScope, range: IpNet) -> Option<PublicKey> {
        self.routes.get(&(scope.clone(), range)).copied()
    }

    /// The registered names.
    pub fn dns(&self) -> &BTreeMap<String, BTreeSet<IpAddr>> {
        &self.dns
    }

    /// The edge peers.
    pub fn edges(&self) -> &BTreeMap<String, EdgeRecord> {
        &self.edges
    }

    /// UDP ports that dedicated services had under an earlier daemon.
    pub fn dedicated_ports(&self) -> &BTreeMap<String, u16> {
        &self.dedicated_ports
    }

    /// Whether an attachment or an allocation holds `ip`.
    pub fn is_leased(&self, ip: IpAddr) -> bool {
        self.ipam.is_used(ip)
    }

    /// The address a container of `service` gets next, at `now` (Unix seconds); `None` when all are leased.
    pub fn pick_service_ip(&mut self, service: &str, now: u64) -> Option<IpAddr> {
        let shared = self.service(service).is_some_and(|service| service.mode == OverlayMode::Shared);
        self.ipam.pick_from_block(if shared { SHARED_SERVICE } else { service }, now)
    }

    /// The address of the slice that is leased next, at `now` (Unix seconds); `None` when all are leased.
    pub fn pick_slice_ip(&mut self, now: u64) -> Option<IpAddr> {
        self.ipam.pick_from_slice(now)
    }

    /// Whether `block` may become a service's: no other service has it and it holds no address of this node's own.
    pub fn block_is_free(&self, block: &IpNet) -> bool {
        let taken = self.services.values().any(|service| overlap(&service.block, block));
        let own = self.node_ip().is_some_and(|ip| block.contains(&ip));
        let sliced =
            self.overlay.as_ref().and_then(|overlay| overlay.slice).is_some_and(|slice| overlap(&slice, block));
        !taken && !own && !sliced && !self.ipam.any_used_in(block)
    }

    fn apply_service(&mut self, name: String, record: Option<ServiceRecord>) -> Change {
        let own_block = |record: &ServiceRecord| {
            (record.mode != OverlayMode::Shared || name == SHARED_SERVICE).then_some(record.block)
        };
        let block = record.as_ref().and_then(own_block);
        let before = self.services.get(&name).and_then(own_block);
        let old = swap(&mut self.services, name.clone(), record);
        if before != block {
            self.ipam.set_block(&name, block);
            self.replay_leases();
        }
        Change::Service(name, old)
    }

    fn apply_attachment(&mut self, handle: AttachmentId, record: Option<AttachmentRecord>) -> Change {
        let new = record.clone();
        let old = swap(&mut self.attachments, handle.clone(), record);
        for (record, used) in [(&old, false), (&new, true)] {
            let Some(record) = record else { continue };
            for ip in [Some(record.service_ip), record.global_ip].into_iter().flatten() {
                self.ipam.set_used(ip, used);
            }
            let members = self.members.entry(record.service.clone()).or_default();
            if used {
                members.insert(handle.clone());
            } else {
                members.remove(&handle);
            }
            if members.is_empty() {
                self.members.remove(&record.service);
            }
        }
        if new.is_some_and(|record| !record.ports.is_empty()) {
            self.published.insert(handle.clone());
        } else {
            self.published.remove(&handle);
        }
        Change::Attachment(handle, old)
    }

    fn apply_peer(&mut self, id: PeerId, record: Option<PeerRecord>) -> Change {
        self.peers_version += 1;
        let record = record.map(Arc::new);
        let old = swap(&mut self.peers, id.clone(), record.clone());
        for range in old.iter().flat_map(|old| &old.allowed_ips) {
            let route = (id.scope.clone(), *range);
            if self.routes.get(&route) == Some(&id.public_key) {
                self.routes.remove(&route);
            }
        }
        for range in record.iter().flat_map(|record| &record.allowed_ips) {
            self.routes.insert((id.scope.clone(), *range), id.public_key);
        }
        Change::Peer(id, old.map(|old| (*old).clone()))
    }

    fn rebuild_slice(&mut self) {
        self.ipam.set_slice(self.slice());
        self.replay_leases();
    }

    /// Tells the pools again what is leased, after one of them was made anew.
    fn replay_leases(&mut self) {
        let attached = self.attachments.values().flat_map(|record| [Some(record.service_ip), record.global_ip]);
        let edges = self.edges.values().map(|edge| edge.ip);
        for ip in attached.flatten().chain(self.allocations.keys().copied()).chain(edges) {
            self.ipam.set_used(ip, true);
        }
        for (ip, until) in &self.rests {
            self.ipam.set_rest(*ip, Some(*until));
        }
    }
}

fn default_cluster() -> IpNet {
    IpNet::V4(ipnet::Ipv4Net::new_assert([10, 200, 0, 0].into(), 16))
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn swap<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}

#[cfg(test)]
mod tests;
