//! Whether packets get from here to there, and answers back. What should arrive is awaited for seconds, since a busy
//! machine is slow; what should not, for a moment only.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use overlayd_core::contract::PortProtocol;
use socket2::SockRef;

use super::ping::echo;
use crate::{Namespace, uninterrupted};

/// How long what should arrive is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what should not arrive is waited for.
const MOMENT: Duration = Duration::from_millis(400);

/// How a service is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReachPath {
    /// An echo request.
    Icmp,
    /// A connection.
    Tcp,
    /// A datagram.
    Udp,
}

/// Every way.
pub const WAYS: [ReachPath; 3] = [ReachPath::Tcp, ReachPath::Udp, ReachPath::Icmp];

/// Whether the receiver, at this address of its own, is reached, and its answer arrives.
pub fn reaches(sender: &Namespace, receiver: &Namespace, at: IpAddr, way: ReachPath) -> bool {
    let answered = |service: ReachService| service.asked_by(sender, service.address(), None).is_some();
    match way {
        ReachPath::Icmp => sender.enter(|| echo(at, 56, 1, PATIENCE)).is_some(),
        ReachPath::Tcp => answered(ReachService::start(receiver, (at, 0).into(), PortProtocol::Tcp)),
        ReachPath::Udp => answered(ReachService::start(receiver, (at, 0).into(), PortProtocol::Udp)),
    }
}

/// Whether nothing gets from the sender to the receiver, at this address of its own.
pub fn is_cut_off(sender: &Namespace, receiver: &Namespace, at: IpAddr, way: ReachPath) -> bool {
    let unheard = |service: ReachService| service.is_unheard_by(sender, service.address(), None);
    match way {
        ReachPath::Icmp => sender.enter(|| echo(at, 56, 1, MOMENT)).is_none(),
        ReachPath::Tcp => unheard(ReachService::start(receiver, (at, 0).into(), PortProtocol::Tcp)),
        ReachPath::Udp => unheard(ReachService::start(receiver, (at, 0).into(), PortProtocol::Udp)),
    }
}

/// A service that listens for as long as it lives. Start one for a port once: a port that was closed may stay taken for a
/// moment, by a program that another test is starting.
#[derive(Debug)]
pub enum ReachService {
    /// Of connections.
    Tcp(TcpListener),
    /// Of datagrams.
    Udp(UdpSocket),
}

/// How far a question got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReachReply {
    Nothing,
    /// It came from there, but the answer did not arrive.
    Question,
    /// It came from there, and was answered.
    Answered(SocketAddr),
}

impl ReachService {
    /// Starts one in the namespace.
    pub fn start(at: &Namespace, address: SocketAddr, protocol: PortProtocol) -> Self {
        let bound = at.enter(|| match protocol {
            PortProtocol::Tcp => TcpListener::bind(address).map(Self::Tcp),
            PortProtocol::Udp => UdpSocket::bind(address).map(Self::Udp),
        });
        bound.unwrap_or_else(|error| panic!("{protocol:?} {address}: {error}"))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Udp(socket) => socket.local_addr(),
        }
        .expect("a bound socket has an address")
    }

    /// Whom the service saw when a program in the namespace, by this address of its own, spoke to `to`, and was answered
    /// from there; `None` when the question or the answer is lost.
    pub fn asked_by(&self, client: &Namespace, to: SocketAddr, from: Option<IpAddr>) -> Option<SocketAddr> {
        match self.hear(client, to, from, PATIENCE) {
            ReachReply::Answered(asker) => Some(asker),
            ReachReply::Nothing | ReachReply::Question => None,
        }
    }

    /// Whether what a program in the namespace says to `to` does not arrive.
    pub fn is_unheard_by(&self, client: &Namespace, to: SocketAddr, from: Option<IpAddr>) -> bool {
        self.hear(client, to, from, MOMENT) == ReachReply::Nothing
    }

    fn hear(&self, client: &Namespace, to: SocketAddr, from: Option<IpAddr>, patience: Duration) -> ReachReply {
        static QUESTIONS: AtomicU64 = AtomicU64::new(0);
        let question = QUESTIONS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        match self {
            Self::Tcp(listener) => connected(listener, client, to, &question, patience),
            Self::Udp(socket) => told(socket, client, to, from, &question, patience),
        }
    }
}

fn connected(
    listener: &TcpListener,
    client: &Namespace,
    to: SocketAddr,
    question: &[u8; 8],
    patience: Duration,
) -> ReachReply {
    // A refused connection is one that does not arrive.
    let Ok(mut stream) = client.enter(|| TcpStream::connect_timeout(&to, patience)) else { return ReachReply::Nothing };
    stream.write_all(question).expect("room for a few bytes");
    SockRef::from(listener).set_read_timeout(Some(patience)).expect("a time-out");
    loop {
        let Ok((mut accepted, asker)) = listener.accept() else { return ReachReply::Nothing };
        let mut told = [0; 8];
        accepted.set_read_timeout(Some(patience)).expect("a time-out");
        // An earlier client that gave up may be in the queue.
        if accepted.read_exact(&mut told).is_ok() && told == *question {
            return ReachReply::Answered(asker);
        }
    }
}

fn told(
    service: &UdpSocket,
    client: &Namespace,
    to: SocketAddr,
    from: Option<IpAddr>,
    question: &[u8; 8],
    patience: Duration,
) -> ReachReply {
    let any = if to.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let client = client.enter(|| UdpSocket::bind((from.unwrap_or(any), 0))).expect("a socket of the client's");
    // A refused datagram is one that does not arrive.
    if client.send_to(question, to).is_err() {
        return ReachReply::Nothing;
    }
    let Some(asker) = received(service, question, patience) else { return ReachReply::Nothing };
    if service.send_to(question, asker).is_err() {
        return ReachReply::Question;
    }
    match received(&client, question, patience) {
        Some(answerer) if answerer == to => ReachReply::Answered(asker),
        _ => ReachReply::Question,
    }
}

/// Whom these words came from; others, late ones from before, are passed over.
fn received(socket: &UdpSocket, words: &[u8; 8], patience: Duration) -> Option<SocketAddr> {
    let end = Instant::now() + patience;
    loop {
        let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        socket.set_read_timeout(Some(left)).expect("a time-out");
        let mut buffer = [0; 16];
        match uninterrupted(|| socket.recv_from(&mut buffer)) {
            Ok((8, from)) if buffer[..8] == *words => return Some(from),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}
