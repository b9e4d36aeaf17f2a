//! Which process holds a port, as far as `/proc` tells (`proc(5)`).

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use socket2::Protocol;

/// The state of a listening TCP socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// The process that listens on the address, as `dnsmasq (pid 812)`.
pub(crate) fn find_port_owner(address: SocketAddr, protocol: Protocol) -> Option<String> {
    let tables = if protocol == Protocol::UDP { ["udp", "udp6"] } else { ["tcp", "tcp6"] };
    let inode = tables.iter().find_map(|table| {
        let text = fs::read_to_string(Path::new("/proc/thread-self/net").join(table)).ok()?;
        text.lines().skip(1).find_map(|line| inode_of(line, address, protocol))
    })?;
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut open = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        open.find(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link.as_str()))?;
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        Some(format!("{} (pid {pid})", name.trim_end()))
    })
}

fn inode_of(line: &str, wanted: SocketAddr, protocol: Protocol) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let ip = address(ip)?;
    let same = u16::from_str_radix(port, 16).ok()? == wanted.port() && (ip == wanted.ip() || ip.is_unspecified());
    let listening = protocol == Protocol::UDP || fields.get(3) == Some(&LISTENING);
    (same && listening).then(|| fields.get(9)?.parse().ok()).flatten()
}

/// The kernel prints the words of an address in its own byte order.
fn address(hex: &str) -> Option<IpAddr> {
    let words = (0..hex.len() / 8).map(|word| u32::from_str_radix(hex.get(8 * word..8 * word + 8)?, 16).ok());
    let octets: Vec<u8> = words.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(|octets| Ipv4Addr::from(octets).into()),
        _ => <[u8; 16]>::try_from(octets).ok().map(|octets| Ipv6Addr::from(octets).into()),
    }
}
