//! What a node holds, as far as it can be told from the records.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use overlayd_core::{
    contract::AttachmentId,
    desired::{Desired, DeviceScope, Lifetime, SHARED_SERVICE},
    protocol::{OverlayMode, Response},
};

use super::ops::{ModelRequest, public_key};

/// What can be compared with the records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelView {
    pub(super) overlay: bool,
    pub(super) services: BTreeMap<String, (String, Lifetime)>,
    pub(super) attached: BTreeMap<u32, AttachedContainer>,
    pub(super) allocated: BTreeSet<IpAddr>,
    pub(super) peers: BTreeMap<u8, BTreeSet<String>>,
    pub(super) edges: BTreeMap<String, IpAddr>,
    pub(super) names: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AttachedContainer {
    pub(super) service: String,
    pub(super) ip: IpAddr,
    pub(super) global: bool,
    pub(super) fenced: bool,
    pub(super) port: Option<u16>,
}

impl ModelView {
    /// What is on record of the containers that this knows the processes of.
    pub fn of(desired: &Desired, container: impl Fn(u32) -> Option<u32>) -> Self {
        let services = desired.services().iter().filter(|(name, _)| *name != SHARED_SERVICE);
        let attached = desired.attachments().iter().filter_map(|(handle, record)| {
            let AttachmentId::Process(pid) = handle else { return None };
            let attached = AttachedContainer {
                service: record.service.clone(),
                ip: record.service_ip,
                global: record.global_ip.is_some(),
                fenced: record.isolation.is_some(),
                port: record.ports.first().map(|port| port.host_ports.0),
            };
            Some((container(*pid)?, attached))
        });
        let asked = (1..4u8).filter_map(|number| {
            let (_, record) =
                desired.peers_of(DeviceScope::Global).find(|(id, _)| id.public_key == public_key(number))?;
            Some((number, record.allowed_ips.iter().map(ToString::to_string).collect()))
        });
        Self {
            overlay: desired.overlay().is_some(),
            services: services.map(|(name, record)| (name.clone(), (mode(record.mode), record.lifetime))).collect(),
            attached: attached.collect(),
            allocated: desired.allocations().keys().copied().collect(),
            peers: asked.collect(),
            edges: desired.edges().iter().map(|(name, edge)| (name.clone(), edge.ip)).collect(),
            names: desired.dns().keys().cloned().collect(),
        }
    }

    /// How many containers each service has.
    pub(super) fn memberships(&self) -> BTreeMap<String, usize> {
        let members = |name: &str| self.attached.values().filter(|attached| attached.service == name).count();
        self.services.keys().map(|name| (name.clone(), members(name))).collect()
    }

    /// What a client would have been told, had it got an answer.
    pub(super) fn reply_to(&self, op: &ModelRequest, before: &Self) -> Option<Response> {
        use overlayd_core::protocol::AttachResult;
        match op {
            ModelRequest::Attach { pid, .. } => {
                let ip = self.attached.get(pid)?.ip;
                Some(Response::Attached(AttachResult { ip, namespace_guid: None }))
            }
            ModelRequest::Allocate(_) => {
                self.allocated.difference(&before.allocated).next().map(|ip| Response::Ip { ip: *ip })
            }
            ModelRequest::Mint(name, _) => self.edges.get(*name).map(|ip| Response::Ip { ip: *ip }),
            _ => Some(Response::Ok),
        }
    }
}

pub(super) fn mode(mode: OverlayMode) -> String {
    format!("{mode:?}")
}
