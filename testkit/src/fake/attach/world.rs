use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use overlayd_core::{
    contract::{
        AttachPlan, Attached, AttachmentId, Egress, Error, Finding, Guid, HostNetworks, NetworkName, NetworkPlan,
        ObservedAttachment, ObservedNetwork, Result, Target, TargetIdentity,
    },
    names::InstanceId,
};

use super::{
    FakePlatform,
    interface::{FakeInterface, FakeUplink, SeenInterface, interfaces_of},
};

/// The host: networks, attachments and containers of everybody.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeWorld {
    pub(super) networks: BTreeMap<NetworkName, FakeNetwork>,
    pub(super) attachments: BTreeMap<AttachmentId, FakeAttachment>,
    /// What of others is in our packets' way.
    pub(super) findings: Vec<Finding>,
    containers: Vec<FakeContainer>,
    started: u64,
}

#[derive(Debug, Clone)]
pub(super) struct FakeNetwork {
    /// Whose it is; `None` when it belongs to no instance.
    pub(super) mark: Option<InstanceId>,
    pub(super) plan: NetworkPlan,
    pub(super) guid: Option<Guid>,
}

#[derive(Debug, Clone)]
pub(super) struct FakeAttachment {
    pub(super) mark: InstanceId,
    pub(super) plan: AttachPlan,
    pub(super) identity: TargetIdentity,
    pub(super) namespace: Option<Guid>,
    /// The endpoint in that namespace (HCN).
    pub(super) endpoint: Option<Guid>,
    /// How many of the plan's interfaces exist.
    pub(super) plugged: usize,
}

#[derive(Debug, Clone)]
struct FakeContainer {
    target: Target,
    identity: TargetIdentity,
}

impl FakeNetwork {
    /// As it is half-way: there, without addresses.
    pub(super) fn bare(mark: InstanceId, plan: NetworkPlan, guid: Option<Guid>) -> Self {
        Self::full(mark, NetworkPlan { gateways: Vec::new(), overlay: None, ..plan }, guid)
    }

    pub(super) fn full(mark: InstanceId, plan: NetworkPlan, guid: Option<Guid>) -> Self {
        Self { mark: Some(mark), plan, guid }
    }
}

impl FakeWorld {
    pub(super) fn start(&mut self, target: &Target) {
        self.stop(target);
        self.started += 1;
        let identity = TargetIdentity(format!("start {}", self.started));
        self.containers.push(FakeContainer { target: target.clone(), identity });
    }

    /// Everything of this instance was never there.
    pub(super) fn forget(&mut self, instance: &InstanceId) {
        self.networks.retain(|_, network| network.mark.as_ref() != Some(instance));
        self.attachments.retain(|_, attachment| attachment.mark != *instance);
    }

    pub(super) fn stop(&mut self, target: &Target) {
        self.containers.retain(|container| container.target != *target);
    }

    pub(super) fn put_foreign(&mut self, name: NetworkName) {
        let plan = NetworkPlan {
            name: name.clone(),
            guid: None,
            gateways: Vec::new(),
            mtu: 1500,
            egress: Egress::None,
            overlay: None,
        };
        self.networks.insert(name, FakeNetwork { mark: None, plan, guid: None });
    }

    pub(super) fn identity(&self, target: &Target) -> Result<TargetIdentity> {
        if let Target::Address(address) = target {
            return Ok(TargetIdentity(format!("address {address}")));
        }
        let found = self.containers.iter().find(|container| container.target == *target);
        found.map(|container| container.identity.clone()).ok_or_else(|| Error::TargetGone(format!("{target:?}")))
    }

    /// The network as it was, when it is ours; an error when its name or range is another's, or when its type would
    /// have to change under its members (HCN).
    pub(super) fn claim_network(
        &self,
        platform: FakePlatform,
        instance: &InstanceId,
        plan: &NetworkPlan,
    ) -> Result<Option<FakeNetwork>> {
        let overlaps = |a: &IpNet, b: &IpNet| a.contains(&b.network()) || b.contains(&a.network());
        let rival = self.networks.values().find(|other| {
            let others = &other.plan.gateways;
            other.plan.name != plan.name && others.iter().any(|a| plan.gateways.iter().any(|b| overlaps(a, b)))
        });
        if let Some(rival) = rival {
            return Err(conflict(format!("the range of {}", plan.name), format!("network {}", rival.plan.name)));
        }
        let by_guid = plan
            .guid
            .as_ref()
            .and_then(|guid| self.networks.values().find(|network| network.guid.as_ref() == Some(guid)));
        match by_guid.or_else(|| self.networks.get(&plan.name)) {
            None => Ok(None),
            Some(found) if by_guid.is_none() && found.mark.as_ref() != Some(instance) => {
                Err(conflict(format!("network {}", plan.name), "a network that is not ours".into()))
            }
            Some(found) => {
                let nat = |plan: &NetworkPlan| plan.egress == Egress::Nat;
                let typed = platform == FakePlatform::Windows && nat(&found.plan) != nat(plan);
                match typed && self.members(&plan.name) > 0 {
                    true => Err(conflict(format!("the type of network {}", plan.name), "its members".into())),
                    false => Ok(Some(found.clone())),
                }
            }
        }
    }

    pub(super) fn remove_network(&mut self, instance: &InstanceId, name: &NetworkName) {
        if self.networks.get(name).is_some_and(|network| network.mark.as_ref() == Some(instance)) {
            self.networks.remove(name);
        }
    }

    /// The reply of an attach that has nothing to do.
    pub(super) fn already(&self, plan: &AttachPlan, identity: &TargetIdentity) -> Option<Attached> {
        let attachment = self.attachments.get(&plan.id)?;
        let same = attachment.identity == *identity
            && attachment.plugged == interfaces_of(plan).len()
            && attachment.plan.service == plan.service
            && attachment.plan.overlay == plan.overlay
            && attachment.plan.fence == plan.fence
            && attachment.plan.ports == plan.ports;
        same.then(|| Attached { identity: identity.clone(), namespace: attachment.namespace.clone() })
    }

    pub(super) fn plug_one(&mut self, id: &AttachmentId) {
        if let Some(attachment) = self.attachments.get_mut(id) {
            attachment.plugged += 1;
        }
    }

    pub(super) fn put_back(&mut self, id: &AttachmentId, before: Option<FakeAttachment>) {
        match before {
            Some(attachment) => self.attachments.insert(id.clone(), attachment),
            None => self.attachments.remove(id),
        };
    }

    pub(super) fn detach(&mut self, instance: &InstanceId, id: &AttachmentId) {
        self.attachments.retain(|key, attachment| {
            let named = match id {
                AttachmentId::ComputeNamespace(guid) => attachment.namespace.as_ref() == Some(guid),
                id => key == id,
            };
            !named || attachment.mark != *instance
        });
    }

    /// Which other attachment has the interface's address in the same place.
    pub(super) fn other_holder(&self, id: &AttachmentId, interface: &FakeInterface) -> Option<String> {
        let mut others = self.attachments.iter().filter(|(key, _)| *key != id);
        let holder = others.find(|(_, other)| {
            other
                .interfaces()
                .iter()
                .any(|other| other.uplink == interface.uplink && other.address.addr() == interface.address.addr())
        });
        holder.map(|(key, _)| key.to_string())
    }

    pub(super) fn inside(&self, target: &Target) -> Vec<SeenInterface> {
        let Ok(identity) = self.identity(target) else { return Vec::new() };
        let of_target =
            |attachment: &&FakeAttachment| attachment.plan.target == *target && attachment.identity == identity;
        let attached = self.attachments.values().filter(of_target).flat_map(FakeAttachment::interfaces);
        attached.filter(|interface| self.has_uplink(interface)).map(FakeInterface::seen).collect()
    }

    /// Whether the container can reach this address, as far as fences let it: a gateway, or another member of one of its
    /// networks.
    pub(super) fn reaches(&self, from: &Target, address: IpAddr) -> bool {
        let Ok(identity) = self.identity(from) else { return false };
        let mine = self.attachments.values().filter(|a| a.plan.target == *from && a.identity == identity);
        let open = mine.filter(|attachment| self.is_open(&attachment.plan, address));
        open.flat_map(FakeAttachment::interfaces).any(|interface| match &interface.uplink {
            FakeUplink::Network(name) => self.on_network(name, address),
            FakeUplink::Routed { source } => *source == address,
        })
    }

    fn on_network(&self, name: &NetworkName, address: IpAddr) -> bool {
        let Some(network) = self.networks.get(name) else { return false };
        let mut members = self.attachments.values().flat_map(FakeAttachment::interfaces);
        network.plan.gateways.iter().any(|gateway| gateway.addr() == address)
            || members.any(|other| other.uplink == FakeUplink::Network(name.clone()) && other.address.addr() == address)
    }

    pub(super) fn observed(&self, instance: &InstanceId) -> HostNetworks {
        let networks = self.networks.iter().filter(|(_, network)| network.mark.as_ref() == Some(instance));
        let attachments = self.attachments.iter().filter(|(_, attachment)| attachment.mark == *instance);
        HostNetworks {
            networks: networks
                .map(|(name, network)| ObservedNetwork {
                    name: name.clone(),
                    guid: network.guid.clone(),
                    gateways: network.plan.gateways.clone(),
                    members: self.members(name),
                })
                .collect(),
            attachments: attachments
                .map(|(id, attachment)| ObservedAttachment {
                    id: id.clone(),
                    namespace: attachment.namespace.clone(),
                    alive: self.identity(&attachment.plan.target).is_ok_and(|now| now == attachment.identity),
                })
                .collect(),
            findings: self.findings.clone(),
        }
    }

    pub(super) fn lines(&self) -> BTreeSet<String> {
        let networks = self.networks.iter().map(|(name, network)| format!("network {name} {network:?}"));
        let attachments = self.attachments.iter().map(|(id, attachment)| {
            let interfaces = attachment.interfaces();
            let guids = (&attachment.namespace, &attachment.endpoint);
            let AttachPlan { fence, ports, .. } = &attachment.plan;
            format!("attachment {id} {guids:?} {:?} {interfaces:?} {fence:?} {ports:?}", attachment.identity)
        });
        networks.chain(attachments).collect()
    }

    fn members(&self, name: &NetworkName) -> usize {
        let interfaces = self.attachments.values().flat_map(FakeAttachment::interfaces);
        interfaces.filter(|interface| interface.uplink == FakeUplink::Network(name.clone())).count()
    }

    fn has_uplink(&self, interface: &FakeInterface) -> bool {
        match &interface.uplink {
            FakeUplink::Network(name) => self.networks.contains_key(name),
            FakeUplink::Routed { .. } => true,
        }
    }
}

impl FakeAttachment {
    /// The interfaces that exist so far.
    fn interfaces(&self) -> Vec<FakeInterface> {
        interfaces_of(&self.plan).into_iter().take(self.plugged).collect()
    }
}

fn conflict(what: String, by: String) -> Error {
    Error::Conflict { what, by }
}
