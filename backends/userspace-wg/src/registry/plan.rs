use std::io;

use overlayd_core::contract::{DeviceMtu, DevicePlan, Error, Result};

use crate::io::{KernelOffloads, interfaces::LinkPlan, udp::UdpSockets};

/// Smallest MTU of an IPv4 interface (RFC 791).
const LEAST_MTU: u16 = 68;

/// A plan whose MTU is a number.
pub(super) struct ResolvedPlan<'a> {
    pub(super) plan: &'a DevicePlan,
    pub(super) mtu: u16,
}

impl<'a> ResolvedPlan<'a> {
    pub(super) fn link(&self) -> LinkPlan<'a> {
        LinkPlan { addresses: &self.plan.addresses, routes: &self.plan.routes, mtu: self.mtu }
    }
}

/// Refuses a plan that is wrong by itself.
pub(super) fn check(plan: &DevicePlan) -> Result<()> {
    match plan.mtu {
        DeviceMtu::Bytes(mtu) if mtu < LEAST_MTU => {
            Err(Error::Invalid(format!("an MTU of {mtu} is less than the {LEAST_MTU} bytes that IPv4 needs")))
        }
        DeviceMtu::Bytes(_) | DeviceMtu::FromUnderlay => Ok(()),
    }
}

/// Binds the port in both families.
pub(super) fn bind(port: u16, mark: u32, offloads: KernelOffloads) -> Result<UdpSockets> {
    UdpSockets::bind(port, mark, offloads).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            Error::Conflict { what: format!("UDP port {port}"), by: "another socket of this host".to_owned() }
        }
        _ => Error::host(format!("listen on UDP port {port}"), error),
    })
}
