use std::{
    io::Read,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{Namespace, uninterrupted};

/// How long a lost answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// One ICMP echo with this many bytes of payload; the round-trip time, or `None` when no answer came.
pub fn ping(from: &Namespace, to: IpAddr, payload: usize) -> Option<Duration> {
    from.enter(|| echo(to, payload, 1, PATIENCE))
}

/// Whether any of a few pings is answered: the first packets may be lost to a handshake or to address resolution.
pub fn pings(from: &Namespace, to: IpAddr) -> bool {
    from.enter(|| (1..=5).any(|sequence| echo(to, 56, sequence, PATIENCE).is_some()))
}

pub(super) fn echo(to: IpAddr, payload: usize, sequence: u8, patience: Duration) -> Option<Duration> {
    let (domain, protocol, request, reply) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let mut socket = Socket::new(domain, Type::DGRAM, Some(protocol)).expect("a ping socket");
    socket.set_read_timeout(Some(patience)).expect("a time-out");
    // The kernel fills in checksum and identifier of a ping socket (icmp(7)).
    let mut packet = vec![request, 0, 0, 0, 0, 0, 0, sequence];
    packet.extend((0..payload).map(|byte| byte as u8));
    let start = Instant::now();
    // No route, or a refusal by a router, is no answer.
    socket.send_to(&packet, &SocketAddr::new(to, 0).into()).ok()?;
    let mut answer = vec![0; packet.len() + 64];
    loop {
        let length = uninterrupted(|| socket.read(&mut answer)).ok()?;
        if answer[0] == reply && answer[7] == sequence {
            return (answer[8..length] == packet[8..]).then(|| start.elapsed());
        }
    }
}
