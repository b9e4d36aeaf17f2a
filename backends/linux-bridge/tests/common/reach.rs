//! Whether packets get from here to there, and answers back.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use overlayd_testkit::lab::{Namespace, probe::ping};

const PATIENCE: Duration = Duration::from_millis(400);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Icmp,
    Tcp,
    Udp,
}

pub const WAYS: [Way; 3] = [Way::Tcp, Way::Udp, Way::Icmp];

/// Whether the receiver, at this address of its own, is reached and its answer arrives.
pub fn reaches(sender: &Namespace, receiver: &Namespace, at: IpAddr, way: Way) -> bool {
    match way {
        Way::Icmp => ping(sender, at, 56).is_some(),
        Way::Tcp => {
            let listener = receiver.enter(|| TcpListener::bind((at, 0))).unwrap();
            let to = listener.local_addr().unwrap();
            sender.enter(|| TcpStream::connect_timeout(&to, PATIENCE)).is_ok()
        }
        Way::Udp => {
            let service = receiver.enter(|| UdpSocket::bind((at, 0))).unwrap();
            udp(sender, &service, service.local_addr().unwrap(), None)
        }
    }
}

/// Whether UDP from this address of the sender's is answered.
pub fn from_address(sender: &Namespace, from: IpAddr, receiver: &Namespace, to: IpAddr) -> bool {
    let service = receiver.enter(|| UdpSocket::bind((to, 0))).unwrap();
    udp(sender, &service, service.local_addr().unwrap(), Some(from))
}

/// Sends a datagram from the sender to `to`, which is to arrive at the service, and an answer back. Returns whether both
/// did.
pub fn udp(sender: &Namespace, service: &UdpSocket, to: SocketAddr, from: Option<IpAddr>) -> bool {
    told(sender, service, to, from).is_some()
}

/// The same, returning whom the service saw.
pub fn told(sender: &Namespace, service: &UdpSocket, to: SocketAddr, from: Option<IpAddr>) -> Option<SocketAddr> {
    let any: IpAddr = if to.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
    let client = sender.enter(|| UdpSocket::bind((from.unwrap_or(any), 0))).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    service.set_read_timeout(Some(PATIENCE)).unwrap();
    // A refused datagram is one that does not arrive.
    client.send_to(b"ask", to).ok()?;
    let mut buffer = [0; 16];
    let (_, asker) = service.recv_from(&mut buffer).ok()?;
    service.send_to(b"answer", asker).ok()?;
    let (length, answerer) = client.recv_from(&mut buffer).ok()?;
    (&buffer[..length] == b"answer" && answerer == to).then_some(asker)
}
