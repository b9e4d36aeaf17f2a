//! What the kernel remembers of connections.

use nlink::{
    blocking::Connection,
    netlink::{
        Netfilter,
        netfilter::{ConntrackFilter, IpProtocol},
    },
};

use crate::{Error, Result};

/// Forgets the UDP flows that were sent to one of these ports of the host (first and last, inclusive), in the calling
/// thread's network namespace. What a flow was translated to at its start holds for all of its packets, so that a flow
/// goes on to where its port led before.
pub fn forget_udp_to(ports: &[(u16, u16)]) -> Result<usize> {
    if ports.is_empty() {
        return Ok(0);
    }
    let failed = |error: nlink::netlink::Error| match error.errno() {
        Some(errno) => Error::refused("forget UDP flows", errno.abs(), Some(error.to_string())),
        None => Error::new("forget UDP flows", std::io::Error::other(error)),
    };
    let connection = Connection::<Netfilter>::new().map_err(failed)?;
    let flows = connection.run(|conn| {
        Box::pin(async move { conn.get_conntrack_matching(&ConntrackFilter::new().proto(IpProtocol::Udp)).await })
    });
    let mut forgotten = 0;
    for flow in flows.map_err(failed)? {
        let port = flow.orig.dst_port;
        if !port.is_some_and(|port| ports.iter().any(|(first, last)| (*first..=*last).contains(&port))) {
            continue;
        }
        match connection.run(|conn| Box::pin(async move { conn.del_conntrack_entry(&flow).await })) {
            Ok(()) => forgotten += 1,
            // It ended by itself.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(forgotten)
}
