//! What `publish_ports` asks for.

use super::{InvalidRequest, parse};
use crate::{contract::PortPlan, protocol::PortSpec};

/// Most entries of one attachment; a range is one.
const MOST_PORTS: usize = 1024;

/// The ports as the host is told, if every entry makes sense by itself.
pub(super) fn ports(ports: Vec<PortSpec>) -> Result<Vec<PortPlan>, InvalidRequest> {
    parse::at_most("ports", MOST_PORTS, ports.len())?;
    ports.into_iter().map(port).collect()
}

fn port(spec: PortSpec) -> Result<PortPlan, InvalidRequest> {
    let last = spec.host_port_end.unwrap_or(spec.host_port);
    let count = last.checked_sub(spec.host_port);
    match count {
        None => Err(InvalidRequest::new("ports", format_args!("{}-{last} ends before it starts", spec.host_port))),
        Some(_) if spec.host_port == 0 || spec.container_port == 0 => {
            Err(InvalidRequest::new("ports", "port 0 cannot be published"))
        }
        Some(count) if spec.container_port.checked_add(count).is_none() => Err(InvalidRequest::new(
            "ports",
            format_args!("{} ports from {} on do not fit below 65536", u32::from(count) + 1, spec.container_port),
        )),
        Some(_) => Ok(PortPlan {
            protocol: spec.protocol,
            host_ip: spec.host_ip,
            host_ports: (spec.host_port, last),
            container_port: spec.container_port,
        }),
    }
}
