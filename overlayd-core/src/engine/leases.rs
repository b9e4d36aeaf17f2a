//! Addresses that are leased by themselves, without a container.

use std::{net::IpAddr, sync::Arc};

use super::{Error, context::Context, locks::Entered};
use crate::{
    desired::{Change, Desired},
    protocol::Response,
};

/// Leases without a container.
#[derive(Debug)]
pub(super) struct AddressLeases {
    context: Arc<Context>,
}

impl AddressLeases {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self { context: Arc::clone(context) }
    }

    /// Leases an address of the service's block, or of the slice where there is no such service.
    pub(super) async fn allocate(&self, _entered: &Entered<'_>, service: String) -> Result<Response, Error> {
        let now = self.context.now();
        let (_, ip) = self
            .context
            .ledger
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

    /// Returns an address; one that is not leased is no error.
    pub(super) async fn release(&self, _entered: &Entered<'_>, ip: IpAddr) -> Result<Response, Error> {
        self.context
            .ledger
            .record(|desired| {
                if !desired.allocations().contains_key(&ip) {
                    // An address of a container is returned by detaching it. Released alone, it would be leased to
                    // another one while the first still has it.
                    return if desired.is_leased(ip) { Err(Error::Attached { ip }) } else { Ok(vec![]) };
                }
                let mut changes = vec![Change::Allocation(ip, None)];
                changes.extend(self.context.rest(desired, ip));
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
    // Asked first, since most addresses never rested and each change is a row to write.
    if desired.rests().contains_key(&ip) { vec![Change::Rest(ip, None)] } else { vec![] }
}
