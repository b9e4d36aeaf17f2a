//! Registered names. They are kept here; a `Dns` backend serves them.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Engine, Error, parse};
use crate::{desired::Change, protocol::Response};

impl Engine {
    /// A second address of a name is added to the first.
    pub(super) async fn register_dns(&self, name: &str, ip: IpAddr) -> Result<Response, Error> {
        let name = parse::dns_name(name)?;
        self.record(|desired| {
            let mut addresses: BTreeSet<IpAddr> = desired.dns().get(&name).cloned().unwrap_or_default();
            let new = addresses.insert(ip);
            Ok(if new { vec![Change::Dns(name, Some(addresses))] } else { vec![] })
        })
        .await?;
        Ok(Response::Ok)
    }

    pub(super) async fn unregister_dns(&self, name: &str) -> Result<Response, Error> {
        let name = parse::dns_name(name)?;
        self.record(|desired| {
            let known = desired.dns().contains_key(&name);
            Ok(if known { vec![Change::Dns(name, None)] } else { vec![] })
        })
        .await?;
        Ok(Response::Ok)
    }
}
