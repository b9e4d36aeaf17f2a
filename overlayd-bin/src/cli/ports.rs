//! Published ports as they are written on the command line.

use std::net::IpAddr;

use overlayd_core::{contract::PortProtocol, protocol::PortSpec};

/// Reads `[ADDRESS:]HOST[-LAST]:CONTAINER[/PROTOCOL]`; an IPv6 address is in brackets.
pub(super) fn parse(text: &str) -> Result<PortSpec, String> {
    let (ports, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.split('/').next().unwrap_or(text), PortProtocol::Tcp),
        Some((ports, "udp")) => (ports, PortProtocol::Udp),
        Some((_, other)) => return Err(format!("`{other}` is neither tcp nor udp")),
    };
    let (host, container) = ports.rsplit_once(':').ok_or("HOST:CONTAINER is needed, as 8080:80")?;
    let (address, host) = match host.rsplit_once(':') {
        None => (None, host),
        Some((address, host)) => (Some(address), host),
    };
    let (first, last) = match host.split_once('-') {
        None => (host, None),
        Some((first, last)) => (first, Some(last)),
    };
    Ok(PortSpec {
        protocol,
        host_ip: address.map(ip).transpose()?,
        host_port: port(first)?,
        host_port_end: last.map(port).transpose()?,
        container_port: port(container)?,
    })
}

fn ip(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let ip = bare.unwrap_or(text).parse::<IpAddr>().map_err(|_| format!("`{text}` is no address"))?;
    if ip.is_ipv6() && bare.is_none() { Err(format!("write [{text}]")) } else { Ok(ip) }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("`{text}` is no port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_they_are_written() {
        let plain = parse("8080:80").unwrap();
        assert_eq!((plain.protocol, plain.host_ip, plain.host_port_end), (PortProtocol::Tcp, None, None));
        assert_eq!((plain.host_port, plain.container_port), (8080, 80));
        let full = parse("[2001:db8::1]:5000-5010:6000/udp").unwrap();
        assert_eq!((full.protocol, full.host_ip), (PortProtocol::Udp, Some("2001:db8::1".parse().unwrap())));
        assert_eq!((full.host_port, full.host_port_end, full.container_port), (5000, Some(5010), 6000));
        assert_eq!(parse("192.0.2.1:53:53/tcp").unwrap().host_ip, Some("192.0.2.1".parse().unwrap()));
        for bad in ["", "80", "a:b", "8080:80/sctp", "2001:db8::1:80:80", "70000:80", "host:80:80"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
