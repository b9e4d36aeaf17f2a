//! Ports of the host that lead to containers.

use std::sync::Arc;

use super::AttachmentPlugger;
use crate::{
    contract::{AttachmentId, PortPlan, PortProtocol},
    desired::{AttachmentRecord, Change, Desired},
    engine::{Error, context::Context},
    protocol::Response,
};

/// Publishes ports.
#[derive(Debug)]
pub(super) struct PublishedPorts {
    context: Arc<Context>,
    plugger: Arc<AttachmentPlugger>,
}

impl PublishedPorts {
    pub(super) fn new(context: &Arc<Context>, plugger: &Arc<AttachmentPlugger>) -> Self {
        Self { context: Arc::clone(context), plugger: Arc::clone(plugger) }
    }

    /// Replaces the published ports of an attachment. The caller holds its lock.
    pub(super) async fn replace(&self, handle: &AttachmentId, ports: Vec<PortPlan>) -> Result<Response, Error> {
        let (undo, ()) = self
            .context
            .ledger
            .decide(|desired| {
                let known = desired.attachment(handle).cloned();
                let known =
                    known.ok_or_else(|| Error::Missing(format!("{handle} is not attached; attach it first")))?;
                // What depends on the state is checked under the mutex of the records, so that two requests at the
                // same time cannot both get the same port.
                check_family(&known, &ports)?;
                check_free(desired, handle, &ports)?;
                if known.ports == ports {
                    return Ok((vec![], ()));
                }
                let record = AttachmentRecord { ports, ..known };
                Ok((vec![Change::Attachment(handle.clone(), Some(record))], ()))
            })
            .await?;
        match self.plugger.replug(handle).await {
            Ok(Some(_)) => Ok(Response::Ok),
            Ok(None) => Err(Error::Missing(format!("{handle} is gone; attach it first"))),
            Err(error) => {
                self.context.ledger.withdraw(undo).await?;
                // The ports that it had before are to work again.
                self.plugger.replug(handle).await?;
                Err(error)
            }
        }
    }
}

fn check_family(record: &AttachmentRecord, ports: &[PortPlan]) -> Result<(), Error> {
    let other = |ip: &std::net::IpAddr| ip.is_ipv4() != record.service_ip.is_ipv4();
    match ports.iter().filter_map(|port| port.host_ip).find(other) {
        None => Ok(()),
        Some(ip) => {
            let reason = format_args!("{ip} is of another family than the container's {}", record.service_ip);
            Err(Error::invalid("ports", reason))
        }
    }
}

fn check_free(desired: &Desired, handle: &AttachmentId, ports: &[PortPlan]) -> Result<(), Error> {
    for (n, port) in ports.iter().enumerate() {
        if ports[..n].iter().any(|other| meet(other, port)) {
            return Err(Error::invalid("ports", format_args!("{} is named twice", name(port))));
        }
        let mut others = desired.published().filter(|(other, _)| *other != handle);
        if let Some((owner, _)) = others.find(|(_, record)| record.ports.iter().any(|other| meet(other, port))) {
            return Err(Error::Conflict(format!("{} is published by {owner} already", name(port))));
        }
    }
    Ok(())
}

fn meet(a: &PortPlan, b: &PortPlan) -> bool {
    // A port without an address is published on all addresses of the host, and so overlaps with every one.
    let addresses = a.host_ip.is_none() || b.host_ip.is_none() || a.host_ip == b.host_ip;
    a.protocol == b.protocol && addresses && a.host_ports.0 <= b.host_ports.1 && b.host_ports.0 <= a.host_ports.1
}

fn name(port: &PortPlan) -> String {
    let protocol = match port.protocol {
        PortProtocol::Tcp => "tcp",
        PortProtocol::Udp => "udp",
    };
    let address = port.host_ip.map_or_else(|| "*".into(), |ip| ip.to_string());
    match port.host_ports {
        (first, last) if first == last => format!("{protocol} {address}:{first}"),
        (first, last) => format!("{protocol} {address}:{first}-{last}"),
    }
}
