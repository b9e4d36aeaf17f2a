//! Services with a WireGuard device of their own.

use super::{
    Services,
    bridge::{names, with_block},
};
use crate::{
    contract,
    desired::{Change, DedicatedRecord, Desired, ServiceRecord},
    engine::{
        Error,
        lifetime::{ServiceUse, used},
    },
    keys::PublicKey,
    names::interface_name,
    protocol::OverlayMode,
};

/// UDP ports of dedicated devices.
const PORTS: std::ops::RangeInclusive<u16> = 51421..=51676;

impl Services {
    /// Device first, then the bridge in front of it. A port that another program on the host has is passed over.
    pub(super) async fn set_up_dedicated(&self, name: &str) -> Result<ServiceRecord, Error> {
        let public_key = self.context.identity.service_key(name)?.public_key();
        // The earlier product gave the service this port, and peers on other nodes have it in their configuration.
        let mut known_port = self.context.ledger.desired().dedicated_ports().get(name).copied();
        let mut first = *PORTS.start();
        loop {
            let (undo, record) = self
                .context
                .ledger
                .decide(|desired| {
                    if let Some(known) = desired.service(name) {
                        let usage = used(desired, name, ServiceUse::Passing);
                        return Ok((usage.into_iter().collect(), known.clone()));
                    }
                    let record = new_record(desired, name, (known_port, first), public_key)?;
                    Ok((vec![Change::Service(name.to_owned(), Some(record.clone()))], record))
                })
                .await?;
            let Err(error) = self.networks.bring_up_dedicated(name).await else { return Ok(record) };
            // The device is removed also when it was set up before: what is half changed is made anew by the next
            // request.
            if let Some(dedicated) = &record.dedicated {
                self.networks.remove_device(name, &dedicated.device).await?;
            }
            self.context.ledger.withdraw(undo).await?;
            match (&error, record.dedicated) {
                // One that was set up before keeps its port: its peers know it.
                (Error::Host { source: contract::Error::Conflict { what, .. }, .. }, Some(dedicated))
                    // Only a conflict about the port is worth another try; one about the name of the device is not.
                    if what.contains(&dedicated.port.to_string())
                        && self.context.ledger.desired().service(name).is_none() =>
                {
                    if known_port.take().is_none() {
                        first = dedicated.port + 1;
                    }
                }
                _ => return Err(error),
            }
        }
    }
}

/// A record with the port that the service is known by, or else the first free one from `first` on.
fn new_record(
    desired: &Desired,
    name: &str,
    (known, first): (Option<u16>, u16),
    public_key: PublicKey,
) -> Result<ServiceRecord, Error> {
    let port = known
        .into_iter()
        .chain(first..=*PORTS.end())
        .find(|port| !is_port_taken(desired, name, *port))
        .ok_or_else(|| {
            Error::Missing(format!("no UDP port from {} to {} is free for service {name}", PORTS.start(), PORTS.end()))
        })?;
    let [deployment, instance] = names(desired);
    // Names of interfaces have 15 bytes at most: long parts are hashed, by the published scheme.
    let device = interface_name(&[deployment, instance, name], "d")?;
    let record = with_block(desired, name, OverlayMode::Dedicated, &[name], "b")?;
    Ok(ServiceRecord { dedicated: Some(DedicatedRecord { device, port, public_key }), ..record })
}

fn is_port_taken(desired: &Desired, name: &str, port: u16) -> bool {
    let mut devices = desired.services().values().filter_map(|service| service.dedicated.as_ref());
    devices.any(|dedicated| dedicated.port == port)
        || desired.overlay().is_some_and(|overlay| overlay.port == port)
        || desired.dedicated_ports().iter().any(|(other, known)| *known == port && other != name)
}
