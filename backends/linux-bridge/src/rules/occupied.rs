//! Ports that programs of the host have: led to a container, they would be taken from them without a word.

use std::{io, net::SocketAddr};

use overlayd_core::contract::{self, AttachmentId, Error, PortProtocol};
use overlayd_netlink::Netns;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::{elements::host_port, sets::RuleItem};

/// Refuses new ports that a program of the host has already.
pub(super) fn check(netns: &Netns, new: &[(AttachmentId, RuleItem)]) -> contract::Result<()> {
    let ports: Vec<(SocketAddr, PortProtocol)> = new.iter().filter_map(|(_, item)| host_port(item)).collect();
    if ports.is_empty() {
        return Ok(());
    }
    let taken = netns.run(|| ports.into_iter().find(|(at, protocol)| is_taken(*at, *protocol)))?;
    match taken {
        None => Ok(()),
        Some((at, protocol)) => {
            let by = "a program of this host; stop it, or publish another port".into();
            Err(Error::Conflict { what: format!("{} port {at}", name(protocol)), by })
        }
    }
}

/// Whether a socket of another program keeps ours from being there. What fails otherwise, such as for an address
/// that the host does not have now, says nothing.
fn is_taken(at: SocketAddr, protocol: PortProtocol) -> bool {
    matches!(try_bind(at, protocol), Err(error) if error.kind() == io::ErrorKind::AddrInUse)
}

fn try_bind(at: SocketAddr, protocol: PortProtocol) -> io::Result<()> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match protocol {
        PortProtocol::Tcp => SocketType::STREAM,
        PortProtocol::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == PortProtocol::Tcp {
        // Connections that have ended do not count.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    Ok(bind(&socket, &at)?)
}

fn name(protocol: PortProtocol) -> &'static str {
    match protocol {
        PortProtocol::Tcp => "TCP",
        PortProtocol::Udp => "UDP",
    }
}
