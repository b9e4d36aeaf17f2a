//! What fences let pass, and where ports lead.

use std::net::IpAddr;

use overlayd_core::contract::{AttachPlan, Error, FencePlan, Inbound, PortPlan, Result, Target};

use super::world::FakeWorld;

impl FakeWorld {
    /// Whether no fence stands between this attachment and the address.
    pub(super) fn is_open(&self, from: &AttachPlan, to: IpAddr) -> bool {
        let receiver = self.attachments.values().map(|attachment| &attachment.plan).find(|plan| has(plan, to));
        let other = receiver.and_then(|plan| plan.fence.as_ref());
        let may_leave = from.fence.as_ref().is_none_or(|own| admits(own, other, to));
        let strict = other.filter(|fence| fence.inbound == Inbound::MembersOnly);
        let may_enter = |fence: &FencePlan| from.addresses().any(|address| admits(fence, from.fence.as_ref(), address));
        may_leave && strict.is_none_or(may_enter)
    }

    pub(super) fn is_published(&self, to: &Target, port: &PortPlan) -> bool {
        let plans = self.attachments.values().map(|attachment| &attachment.plan);
        plans.filter(|plan| plan.target == *to).flat_map(|plan| &plan.ports).any(|published| {
            let (first, last) = published.host_ports;
            let outside = port.host_ports.0;
            published.protocol == port.protocol
                && (first..=last).contains(&outside)
                && published.container_port + (outside - first) == port.container_port
        })
    }

    /// A port of the host leads to one place.
    pub(super) fn check_ports(&self, plan: &AttachPlan) -> Result<()> {
        let others = self.attachments.iter().filter(|(id, _)| **id != plan.id);
        for (id, other) in others {
            for port in &plan.ports {
                if other.plan.ports.iter().any(|theirs| meet(port, theirs)) {
                    let what = format!("port {} of the host", port.host_ports.0);
                    return Err(Error::Conflict { what, by: id.to_string() });
                }
            }
        }
        Ok(())
    }
}

/// Whether the fence lets its member and the other end speak.
fn admits(fence: &FencePlan, other: Option<&FencePlan>, at: IpAddr) -> bool {
    let covers = |ranges: &[ipnet::IpNet]| ranges.iter().any(|range| range.contains(&at));
    let is_member = other.is_some_and(|other| other.network == fence.network);
    is_member || covers(&fence.reachable) || !covers(&fence.overlay)
}

fn has(plan: &AttachPlan, address: IpAddr) -> bool {
    plan.target == Target::Address(address) || plan.addresses().any(|own| own == address)
}

fn meet(one: &PortPlan, other: &PortPlan) -> bool {
    let same_place = one.host_ip.is_none() || other.host_ip.is_none() || one.host_ip == other.host_ip;
    let overlap = one.host_ports.0 <= other.host_ports.1 && other.host_ports.0 <= one.host_ports.1;
    one.protocol == other.protocol && same_place && overlap
}
