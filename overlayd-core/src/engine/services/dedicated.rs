//! Services with a WireGuard device of their own.

use crate::{
    contract,
    desired::{Change, DedicatedRecord, Desired, ServiceRecord},
    engine::{
        Engine, Error,
        services::{
            Use,
            new::{names, with_block},
            used,
        },
    },
    keyring::key_name,
    keys::{PrivateKey, PublicKey},
    names::{LinkName, interface_name},
    plan,
    protocol::OverlayMode,
};

/// UDP ports of dedicated devices.
const PORTS: std::ops::RangeInclusive<u16> = 51421..=51676;

impl Engine {
    /// Device first, then the bridge in front of it. A port that somebody else on the host has is passed over.
    pub(super) async fn setup_dedicated(&self, name: &str) -> Result<ServiceRecord, Error> {
        let public_key = self.service_key(name)?.public_key();
        let mut known_port = self.desired().dedicated_ports().get(name).copied();
        let mut first = *PORTS.start();
        loop {
            let (undo, record) = self
                .decide(|desired| {
                    if let Some(known) = desired.service(name) {
                        return Ok((used(desired, name, Use::Passing).into_iter().collect(), known.clone()));
                    }
                    let record = new(desired, name, (known_port, first), public_key)?;
                    Ok((vec![Change::Service(name.to_owned(), Some(record.clone()))], record))
                })
                .await?;
            let Err(error) = self.bring_up_dedicated(name).await else { return Ok(record) };
            if let Some(dedicated) = &record.dedicated {
                self.remove_dedicated_device(name, &dedicated.device).await?;
            }
            self.withdraw(undo).await?;
            match (&error, record.dedicated) {
                (Error::Host { source: contract::Error::Conflict { what, .. }, .. }, Some(dedicated))
                    if what.contains(&dedicated.port.to_string()) && self.desired().service(name).is_none() =>
                {
                    if known_port.take().is_none() {
                        first = dedicated.port + 1;
                    }
                }
                _ => return Err(error),
            }
        }
    }

    pub(in crate::engine) async fn ensure_dedicated_device(&self, name: &str) -> Result<(), Error> {
        let key = self.service_key(name)?;
        let plan = {
            let desired = self.desired();
            let service = desired.service(name);
            let dedicated = service.and_then(|service| Some((service, service.dedicated.as_ref()?)));
            dedicated.map(|(service, dedicated)| plan::dedicated_device(&desired, name, service, dedicated, key))
        };
        match plan {
            Some(plan) => self.host.ensure_device(&plan).await.map(|_| ()),
            None => Ok(()),
        }
    }

    pub(super) async fn remove_dedicated_device(&self, name: &str, device: &LinkName) -> Result<(), Error> {
        self.sent.forget_device(Some(name));
        self.host.remove_device(device).await
    }

    /// The service's identity, the same for as long as the node lives.
    pub(in crate::engine) fn service_key(&self, name: &str) -> Result<PrivateKey, Error> {
        Ok(self.keyring.load_or_generate(&key_name("service", name))?)
    }

    async fn bring_up_dedicated(&self, name: &str) -> Result<(), Error> {
        self.ensure_dedicated_device(name).await?;
        self.send_all_peers(Some(name)).await?;
        self.ensure_network(name).await
    }
}

/// A record with the port that the service is known by, or else the first free one from `first` on.
fn new(
    desired: &Desired,
    name: &str,
    (known, first): (Option<u16>, u16),
    public_key: PublicKey,
) -> Result<ServiceRecord, Error> {
    let taken = |port: &u16| {
        let mut devices = desired.services().values().filter_map(|service| service.dedicated.as_ref());
        devices.any(|dedicated| dedicated.port == *port)
            || desired.overlay().is_some_and(|overlay| overlay.port == *port)
            || desired.dedicated_ports().iter().any(|(other, known)| known == port && other != name)
    };
    let port = known.into_iter().chain(first..=*PORTS.end()).find(|port| !taken(port)).ok_or_else(|| {
        Error::Missing(format!("no UDP port from {} to {} is free for service {name}", PORTS.start(), PORTS.end()))
    })?;
    let [deployment, instance] = names(desired);
    let device = interface_name(&[deployment, instance, name], "d")?;
    let record = with_block(desired, name, OverlayMode::Dedicated, &[name], "b")?;
    Ok(ServiceRecord { dedicated: Some(DedicatedRecord { device, port, public_key }), ..record })
}
