//! Addresses that are leased by themselves, tied to no container.

use std::net::IpAddr;

use super::{Engine, Error, parse};
use crate::{
    desired::{Change, Desired},
    protocol::Response,
};

impl Engine {
    pub(super) async fn allocate_ip(&self, service: String) -> Result<Response, Error> {
        parse::name("service", &service)?;
        let _world = self.world.read().await;
        let now = self.now();
        let (_, ip) = self
            .decide(|desired| {
                let ip = match desired.service(&service) {
                    Some(_) => pick_service_ip(desired, &service, now)?,
                    None => pick_slice_ip(desired, now)?,
                };
                let mut changes = end_rest(desired, ip);
                changes.push(Change::Allocation(ip, Some(service)));
                Ok((changes, ip))
            })
            .await?;
        Ok(Response::Ip { ip })
    }

    pub(super) async fn release_ip(&self, ip: IpAddr) -> Result<Response, Error> {
        let _world = self.world.read().await;
        self.record(|desired| {
            if !desired.allocations().contains_key(&ip) {
                return if desired.is_leased(ip) { Err(Error::Attached { ip }) } else { Ok(vec![]) };
            }
            let mut changes = vec![Change::Allocation(ip, None)];
            changes.extend(self.rest(desired, ip));
            Ok(changes)
        })
        .await?;
        Ok(Response::Ok)
    }
}

pub(super) fn pick_service_ip(desired: &mut Desired, service: &str, now: u64) -> Result<IpAddr, Error> {
    desired.pick_service_ip(service, now).ok_or_else(|| Error::Exhausted {
        what: "service bridge subnet".into(),
        range: desired.service(service).map_or_else(|| desired.slice(), |service| service.block),
    })
}

pub(super) fn pick_slice_ip(desired: &mut Desired, now: u64) -> Result<IpAddr, Error> {
    desired.pick_slice_ip(now).ok_or_else(|| Error::Exhausted { what: "slice".into(), range: desired.slice() })
}

/// An address that is leased no longer rests.
pub(super) fn end_rest(desired: &Desired, ip: IpAddr) -> Vec<Change> {
    if desired.rests().contains_key(&ip) { vec![Change::Rest(ip, None)] } else { vec![] }
}
