//! Networks that share a service's bridge: nothing gets across, for any hardware address.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use overlayd_testkit::lab::{
    self, LabCluster, Namespace,
    probe::{MARKER, PacketCapture},
};
use socket2::{Domain, Socket, Type};

use super::town::{Isolation, Town};

const V4_GROUP: Ipv4Addr = Ipv4Addr::new(239, 7, 7, 7);
/// Of link-local scope: no router has a say.
const V6_GROUP: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0, 0x77);
const PORT: u16 = 7007;
const MOMENT: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn ipv4_frames_do_not_get_across() {
    frames(LabCluster::V4);
}

#[test]
fn ipv6_frames_do_not_get_across() {
    frames(LabCluster::V6);
}

#[test]
fn ipv4_multicast_and_broadcast_stay_within_the_network() {
    groups(LabCluster::V4);
}

#[test]
fn ipv6_multicast_stays_within_the_network() {
    groups(LabCluster::V6);
}

/// A packet straight to the other's own hardware address.
fn frames(cluster: LabCluster) {
    if !lab::available() {
        return;
    }
    let town = Town::new(cluster, Isolation::Open);
    let (sender, _) = town.who("m1");
    for (to, arrives) in [("m2", true), ("x", false), ("n", false)] {
        let (receiver, at) = town.who(to);
        let link = receiver.run(&["ip", "-oneline", "link", "show", "dev", "eth0"]);
        let mac = link.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");
        sender.run(&["ip", "neighbour", "replace", &at.to_string(), "lladdr", mac.trim(), "dev", "eth0"]);
        let capture = PacketCapture::start(receiver, &MARKER);
        let socket = sender.enter(|| UdpSocket::bind((unspecified(at), 0))).expect("a socket");
        // No ear of the receiver's is needed: the capture sees all that comes in.
        socket.send_to(&MARKER, (at, PORT)).expect("a packet");
        std::thread::sleep(MOMENT);
        assert_eq!(capture.end().with_marker > 0, arrives, "what {to} saw of m1");
    }
}

/// All listen to the group; what a member sends is heard by members alone, and members hear members alone.
fn groups(cluster: LabCluster) {
    if !lab::available() {
        return;
    }
    let town = Town::new(cluster, Isolation::Open);
    let names = ["m1", "m2", "x", "n"];
    let ears: Vec<(&str, UdpSocket)> = names.iter().map(|name| (*name, listener(town.who(name)))).collect();
    let none: [&str; 0] = [];
    for (speaker, audience) in [("m1", &["m2"][..]), ("x", &none), ("n", &none)] {
        let mut targets = vec![if cluster == LabCluster::V4 { IpAddr::from(V4_GROUP) } else { V6_GROUP.into() }];
        if cluster == LabCluster::V4 {
            targets.push(Ipv4Addr::BROADCAST.into());
        }
        for target in targets {
            let (namespace, own) = town.who(speaker);
            say(namespace, own, target, speaker);
            for (name, ear) in ears.iter().filter(|(name, _)| *name != speaker) {
                let expected = audience.contains(name);
                assert_eq!(hears(ear, speaker, expected), expected, "{name} hears {speaker} by {target}");
            }
        }
    }
}

/// A socket that hears the group, and broadcasts.
fn listener((namespace, own): (&Namespace, IpAddr)) -> UdpSocket {
    namespace.enter(|| {
        let socket = UdpSocket::bind((unspecified(own), PORT)).expect("a socket");
        match own {
            IpAddr::V4(own) => socket.join_multicast_v4(&V4_GROUP, &own),
            IpAddr::V6(_) => socket.join_multicast_v6(&V6_GROUP, index_of_eth0()),
        }
        .expect("a group");
        socket
    })
}

fn say(namespace: &Namespace, own: IpAddr, target: IpAddr, words: &str) {
    namespace.enter(|| {
        let domain = if own.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::DGRAM, None).expect("a socket");
        socket.bind(&SocketAddr::new(own, 0).into()).expect("an address");
        match own {
            IpAddr::V4(own) => {
                socket.set_broadcast(true).expect("permission to speak to all");
                socket.set_multicast_if_v4(&own).expect("an interface");
            }
            IpAddr::V6(_) => socket.set_multicast_if_v6(index_of_eth0()).expect("an interface"),
        }
        socket.send_to(words.as_bytes(), &SocketAddr::new(target, PORT).into()).expect("a packet");
    });
}

/// Whether these words arrive; what should is waited for longer.
fn hears(ear: &UdpSocket, words: &str, expected: bool) -> bool {
    ear.set_read_timeout(Some(if expected { PATIENCE } else { MOMENT })).expect("a time-out");
    let mut buffer = [0; 16];
    let heard = overlayd_testkit::uninterrupted(|| ear.recv_from(&mut buffer));
    matches!(heard, Ok((length, _)) if buffer[..length] == *words.as_bytes())
}

fn index_of_eth0() -> u32 {
    nix::net::if_::if_nametoindex("eth0").expect("eth0")
}

fn unspecified(family: IpAddr) -> IpAddr {
    if family.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}
