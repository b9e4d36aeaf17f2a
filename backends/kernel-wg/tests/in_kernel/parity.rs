//! One backend is as good as the other: the same requests lead to the same view of the device, and the same packets
//! arrive or are dropped.

use std::{
    net::{SocketAddr, UdpSocket},
    num::NonZeroU16,
    time::Duration,
};

use overlayd_core::{
    contract::{DeviceMtu, DevicePlan, PeerChange, PeerPlan},
    keys::{PresharedKey, PrivateKey, PublicKey},
};

use crate::hosts::{Host, Kind, cable, peer};

/// The node under test is 10.77.0.1; the remote has every address that the corpus sends from.
const US: &str = "10.77.0.1";
const SOURCES: [&str; 4] = ["10.77.0.2", "10.80.2.1", "10.80.1.1", "10.99.0.9"];

#[test]
fn the_same_requests_lead_to_the_same_status() {
    let (kernel, userspace) = (views(Kind::Kernel), views(Kind::Userspace));
    assert_eq!(kernel.len(), userspace.len());
    for (step, (kernel, userspace)) in kernel.iter().zip(&userspace).enumerate() {
        assert_eq!(kernel, userspace, "after request {step}");
    }
}

#[test]
fn the_same_packets_are_delivered_and_dropped() {
    let kernel = deliveries(Kind::Kernel);
    assert_eq!(kernel, deliveries(Kind::Userspace));
    let expected = [
        "in: 10.77.0.2, 100 bytes: delivered",
        "in: 10.80.2.1, 100 bytes: delivered",
        "in: 10.80.1.1, 100 bytes: dropped",
        "in: 10.99.0.9, 100 bytes: dropped",
        "in: 10.77.0.2, 1432 bytes: delivered",
        "out: 10.77.0.2, 100 bytes: delivered",
        "out: 10.80.2.1, 100 bytes: delivered",
        "out: 10.80.1.1, 100 bytes: dropped",
        "out: 10.81.0.1, 100 bytes: dropped",
        "out: 10.77.0.2, 1432 bytes: too big",
        "the owner of 10.80.1.0/24 was spoken to",
    ];
    assert_eq!(kernel, expected);
}

/// What is to be seen after each request of the trace, or how it was refused.
fn views(kind: Kind) -> Vec<String> {
    let (host, _other) = cable(kind, Kind::Kernel);
    let plan =
        DevicePlan { private_key: PrivateKey::from_bytes([1; 32]), ..host.plan(&["10.77.0.1/16", "fd77::1/64"]) };
    let mut seen = vec![request(&host, host.ensure(&plan).map(drop))];
    let set = |seed: u8, ranges: &[&str]| peer(key(seed), "", ranges);
    let trace: Vec<Vec<PeerChange>> = vec![
        vec![PeerChange::Set(peer(key(2), "192.0.2.2:51820", &["10.77.0.2/32", "10.80.0.0/16"]))],
        vec![PeerChange::Set(set(3, &["10.80.1.0/24", "fd77:3::/64"])), PeerChange::Set(set(4, &[]))],
        vec![PeerChange::Set(PeerPlan { keepalive: NonZeroU16::new(25), ..set(2, &["10.77.0.2/32", "10.80.1.0/24"]) })],
        vec![PeerChange::Set(PeerPlan {
            preshared_key: Some(PresharedKey::from_bytes([9; 32])),
            ..set(3, &["10.77.0.9/16"])
        })],
        vec![PeerChange::Remove(key(2)), PeerChange::Set(set(2, &["10.80.0.0/16"]))],
        vec![PeerChange::Set(set(4, &["0.0.0.0/0", "::/0"])), PeerChange::Remove(key(3)), PeerChange::Remove(key(9))],
        vec![PeerChange::Remove(key(4)), PeerChange::Set(set(1, &["10.82.0.0/16"]))],
        vec![PeerChange::Set(peer(key(5), "192.0.2.2:0", &["10.82.0.0/16"]))],
        vec![PeerChange::Set(peer(PublicKey::from_bytes([0; 32]), "", &[]))],
    ];
    for changes in trace {
        seen.push(request(&host, host.change(changes)));
    }
    let plan = DevicePlan {
        addresses: vec!["10.77.5.1/24".parse().unwrap()],
        routes: vec!["10.80.0.0/12".parse().unwrap()],
        mtu: DeviceMtu::Bytes(1300),
        listen_port: 51821,
        ..plan
    };
    seen.push(request(&host, host.ensure(&plan).map(drop)));
    // The device takes the key of a peer.
    let plan = DevicePlan { private_key: PrivateKey::from_bytes([2; 32]), ..plan };
    seen.push(request(&host, host.ensure(&plan).map(drop)));
    seen.push(host.must("ip -4 route show proto 111"));
    seen
}

fn request(host: &Host, outcome: overlayd_core::contract::Result<()>) -> String {
    let mut seen = host.status();
    seen.dropped.clear();
    seen.addresses.sort();
    seen.peers.sort_by_key(|peer| peer.public_key);
    for peer in &mut seen.peers {
        peer.allowed_ips.sort();
        // Attempts to reach a peer are counted, and end at different times.
        peer.tx_bytes = 0;
    }
    format!("{:?} {seen:#?}", outcome.map_err(|error| error.to_string()))
}

fn key(seed: u8) -> PublicKey {
    PrivateKey::from_bytes([seed; 32]).public_key()
}

/// What becomes of every packet of the corpus.
fn deliveries(kind: Kind) -> Vec<String> {
    let (us, remote) = cable(kind, Kind::Kernel);
    let owner = remote.inside(|| UdpSocket::bind("192.0.2.2:51999").unwrap());
    owner.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let routes = vec!["10.80.0.0/12".parse().unwrap(), "10.77.0.2/32".parse().unwrap()];
    let mtu = DeviceMtu::Bytes(1420);
    us.ensure(&DevicePlan { routes, mtu, ..us.plan(&["10.77.0.1/32"]) }).unwrap();
    us.set(peer(remote.public(), "192.0.2.2:51820", &["10.77.0.2/32", "10.80.0.0/16"]));
    us.set(peer(key(3), "192.0.2.2:51999", &["10.80.1.0/24"]));
    let routes = vec!["10.77.0.1/32".parse().unwrap()];
    // Its inner packets may be larger than ours; the cable carries what the two sizes differ in.
    remote.ensure(&DevicePlan { routes, mtu: DeviceMtu::Bytes(1480), ..remote.plan(&[]) }).unwrap();
    remote.set(peer(us.public(), "192.0.2.1:51820", &["0.0.0.0/0"]));
    for source in SOURCES {
        remote.must(&format!("ip addr add {source}/32 dev lo"));
    }
    us.must_ping("10.77.0.2");
    let mut seen = incoming(&us, &remote);
    seen.extend(outgoing(&us, &remote));
    let mut initiation = [0; 2048];
    let spoken_to = owner.recv(&mut initiation).is_ok_and(|len| len == 148 && initiation[0] == 1);
    seen.push(format!("the owner of 10.80.1.0/24 was {}spoken to", if spoken_to { "" } else { "not " }));
    seen
}

fn incoming(us: &Host, remote: &Host) -> Vec<String> {
    let receiver = us.inside(|| UdpSocket::bind("0.0.0.0:7000").unwrap());
    let corpus: Vec<(&str, usize)> = SOURCES.iter().map(|source| (*source, 100)).chain([("10.77.0.2", 1432)]).collect();
    for (source, len) in &corpus {
        send(remote, source, US, *len);
    }
    send(remote, "10.77.0.2", US, END);
    let arrived = drain(&receiver, |from| from.ip().to_string());
    verdicts("in", &corpus, &arrived)
}

fn outgoing(us: &Host, remote: &Host) -> Vec<String> {
    let receivers = ["10.77.0.2", "10.80.2.1", "10.80.1.1"]
        .map(|address| (address, remote.inside(move || UdpSocket::bind((address, 7000)).unwrap())));
    let corpus = [("10.77.0.2", 100), ("10.80.2.1", 100), ("10.80.1.1", 100), ("10.81.0.1", 100)];
    for (to, len) in corpus {
        send(us, US, to, len);
    }
    send(us, US, "10.80.2.1", END);
    send(us, US, "10.77.0.2", END);
    let mut arrived = Vec::new();
    for (address, receiver) in &receivers[..2] {
        arrived.extend(drain(receiver, |_| (*address).to_owned()));
    }
    receivers[2].1.set_nonblocking(true).unwrap();
    if receivers[2].1.recv(&mut [0; 2048]).is_ok() {
        arrived.push((receivers[2].0.to_owned(), 100));
    }
    let mut seen = verdicts("out", &corpus, &arrived);
    let ping = us.run("ping -c 1 -W 1 -M do -s 1404 10.77.0.2");
    let too_big = String::from_utf8_lossy(&ping.stderr).contains("message too long");
    seen.push(format!("out: 10.77.0.2, 1432 bytes: {}", if too_big { "too big" } else { "sent" }));
    seen
}

/// Length of the packet that ends a corpus: packets of one tunnel arrive in order.
const END: usize = 40;

/// Sends one UDP packet of `len` bytes with its IPv4 header. An error of the host is a packet that is not sent.
fn send(host: &Host, from: &str, to: &str, len: usize) {
    let (from, to) = (format!("{from}:0"), format!("{to}:7000"));
    host.inside(move || {
        let sent = UdpSocket::bind(from).unwrap().send_to(&vec![0; len - 28], to);
        assert!(sent.is_ok() || sent.is_err_and(|error| error.raw_os_error().is_some()));
    });
}

/// What arrived before the end.
fn drain(receiver: &UdpSocket, name: impl Fn(SocketAddr) -> String) -> Vec<(String, usize)> {
    receiver.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut arrived = Vec::new();
    loop {
        let (len, from) = receiver.recv_from(&mut [0; 2048]).expect("the last packet arrives");
        if len + 28 == END {
            return arrived;
        }
        arrived.push((name(from), len + 28));
    }
}

fn verdicts(way: &str, corpus: &[(&str, usize)], arrived: &[(String, usize)]) -> Vec<String> {
    let arrives = |packet: &(&str, usize)| arrived.iter().any(|(name, len)| (name.as_str(), *len) == *packet);
    let verdict = |packet: &(&str, usize)| if arrives(packet) { "delivered" } else { "dropped" };
    corpus.iter().map(|packet| format!("{way}: {}, {} bytes: {}", packet.0, packet.1, verdict(packet))).collect()
}
