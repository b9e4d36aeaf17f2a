//! Streams and datagrams through devices with and without the kernel's offloads, and what they look like on the way.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use overlayd_core::names::InstanceId;
use overlayd_userspace_wg::{AtExit, KernelOffloads, TunOffload, UdpReceive, UdpSend, offload::InternetChecksum};
use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, Socket, Type};
use support::{Host, Node, Pair, eventually, peer, two_hosts};

const MTU: usize = 1420;
/// What IPv4, UDP and WireGuard put around a packet.
const AROUND: usize = 20 + 8 + 32;
const INNER: [&str; 2] = ["10.77.0.2", "fd77::2"];

/// Content that does not repeat within a packet.
fn content(len: usize) -> Vec<u8> {
    (0..len as u32).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes()).take(len).collect()
}

/// Sends a stream from one host to an address of the other; returns what arrived.
fn stream(from: &Host, to: &Host, address: &str, len: usize) -> Vec<u8> {
    let address = SocketAddr::new(address.parse().unwrap(), 0);
    let listener = to.netns.run(|| TcpListener::bind(address).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sender = from.netns.run(|| TcpStream::connect_timeout(&address, support::PATIENCE).unwrap()).unwrap();
    let sending = thread::spawn(move || sender.write_all(&content(len)).unwrap());
    let (mut receiver, _) = listener.accept().unwrap();
    receiver.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let mut arrived = Vec::new();
    receiver.read_to_end(&mut arrived).unwrap();
    sending.join().unwrap();
    arrived
}

/// Sends datagrams of 1000 bytes, which leave their host as one; returns how many arrived whole.
fn datagrams(from: &Host, to: &Host, address: &str, count: usize) -> usize {
    let address = SocketAddr::new(address.parse().unwrap(), 0);
    let receiver = to.netns.run(|| UdpSocket::bind(address).unwrap()).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let address = receiver.local_addr().unwrap();
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let sender = from.netns.run(|| UdpSocket::bind((any, 0)).unwrap()).unwrap();
    setsockopt(&sender, UdpGsoSegment, &1000).unwrap();
    let sent = content(count * 1000);
    sender.send_to(&sent, address).unwrap();
    let mut buffer = [0; 2000];
    sent.chunks(1000)
        .take_while(|expected| match overlayd_testkit::uninterrupted(|| receiver.recv(&mut buffer)) {
            Ok(len) => buffer[..len] == **expected,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        })
        .count()
}

fn pair(a: KernelOffloads, b: KernelOffloads) -> Pair {
    let pair = Pair::with("192.0.2.", |config| config.offloads = a, |config| config.offloads = b);
    pair.left.must_ping("10.77.0.2");
    pair
}

fn assert_carries(pair: &Pair) {
    for address in INNER {
        assert!(stream(&pair.left, &pair.right, address, 3_000_000) == content(3_000_000), "{address}: a stream");
        assert_eq!(datagrams(&pair.left, &pair.right, address, 40), 40, "{address}: datagrams");
    }
    assert!(stream(&pair.right, &pair.left, "10.77.0.1", 3_000_000) == content(3_000_000), "the other way");
    assert_eq!((pair.a.status().dropped, pair.b.status().dropped), Default::default());
}

#[test]
fn streams_and_datagrams_pass_with_all_offloads() {
    assert_carries(&pair(KernelOffloads::ALL, KernelOffloads::ALL));
}

#[test]
fn streams_and_datagrams_pass_without_any_offload() {
    assert_carries(&pair(KernelOffloads::NONE, KernelOffloads::NONE));
}

#[test]
fn a_host_with_offloads_and_one_without_understand_each_other() {
    assert_carries(&pair(KernelOffloads::ALL, KernelOffloads::NONE));
    assert_carries(&pair(KernelOffloads::NONE, KernelOffloads::ALL));
}

#[test]
fn kernels_that_know_only_some_of_the_offloads_are_served() {
    let older = KernelOffloads { tun: TunOffload::Tcp, send: UdpSend::Many, receive: UdpReceive::Many };
    assert_carries(&pair(older, older));
    let sends_only = KernelOffloads { send: UdpSend::Segmented, ..older };
    assert_carries(&pair(sends_only, older));
}

/// Everything that a host hears and says on all of its interfaces, without link headers.
struct Tap(Socket);

impl Tap {
    fn on(host: &Host) -> Self {
        let everything = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        let socket = host.netns.run(|| Socket::new(Domain::PACKET, Type::DGRAM, Some(everything)).unwrap()).unwrap();
        socket.set_recv_buffer_size(64 << 20).unwrap();
        Self(socket)
    }

    fn packets(&self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 70_000];
        let mut packets = Vec::new();
        while let Ok((len, _)) = rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
            packets.push(buffer[..len].to_vec());
        }
        packets
    }
}

/// Whether lengths and checksums of a TCP or UDP packet are right.
fn is_intact(packet: &[u8]) -> bool {
    let (at, protocol, addresses) = if packet[0] >> 4 == 4 { (20, packet[9], 12..20) } else { (40, packet[6], 8..40) };
    let ip = at == 40 || InternetChecksum::default().bytes(&packet[..20]).is_intact();
    let above = packet.len() - at;
    let pseudo = InternetChecksum::default().bytes(&packet[addresses]).word(protocol.into()).word(above as u16);
    ip && pseudo.bytes(&packet[at..]).is_intact()
}

#[test]
fn on_the_wire_and_inside_every_packet_is_within_the_mtu_and_intact() {
    let pair = pair(KernelOffloads::ALL, KernelOffloads::NONE);
    // Otherwise the cable would carry many datagrams as one.
    pair.left.must("ip", &["link", "set", "cable", "gso_max_segs", "1"]);
    let tap = Tap::on(&pair.right);
    for address in INNER {
        assert!(stream(&pair.left, &pair.right, address, 1_000_000) == content(1_000_000));
        assert_eq!(datagrams(&pair.left, &pair.right, address, 30), 30);
    }
    let packets = tap.packets();
    let between = |packet: &&Vec<u8>, v4: [u8; 4], v6: u8| match packet[0] >> 4 {
        4 => packet[12..16] == v4,
        _ => packet[8..10] == [0xfd, v6],
    };
    let outer: Vec<_> = packets.iter().filter(|packet| between(packet, [192, 0, 2, 1], 0)).collect();
    let inner: Vec<_> = packets.iter().filter(|packet| between(packet, [10, 77, 0, 1], 0x77)).collect();
    assert!(outer.len() > 1500 && inner.len() > 1500, "{} outside, {} inside", outer.len(), inner.len());
    assert_eq!(outer.iter().map(|packet| packet.len()).max(), Some(MTU + AROUND));
    assert_eq!(inner.iter().map(|packet| packet.len()).max(), Some(MTU));
    for packet in inner.into_iter().filter(|packet| [6, 17].contains(&packet[if packet[0] >> 4 == 4 { 9 } else { 6 }]))
    {
        assert!(is_intact(packet), "{packet:02x?}");
    }
}

#[test]
fn a_stream_arrives_in_larger_pieces_than_it_travels_in() {
    let pair = pair(KernelOffloads::ALL, KernelOffloads::ALL);
    let tap = Tap::on(&pair.right);
    assert!(stream(&pair.left, &pair.right, "10.77.0.2", 1_000_000) == content(1_000_000));
    let inner = tap.packets().into_iter().filter(|packet| packet[0] == 0x45 && packet[12..16] == [10, 77, 0, 1]);
    let largest = inner.map(|packet| packet.len()).max().unwrap();
    assert!(largest > 10 * MTU, "the largest piece is {largest}");
}

#[test]
fn a_path_that_is_narrower_than_the_device_carries_in_fragments() {
    let pair = pair(KernelOffloads::ALL, KernelOffloads::ALL);
    pair.left.must("ip", &["link", "set", "cable", "mtu", "1400"]);
    assert!(stream(&pair.left, &pair.right, "10.77.0.2", 300_000) == content(300_000));
    assert_eq!(pair.a.status().dropped, Default::default());
}

#[test]
fn an_interface_that_stayed_is_adopted_with_and_without_headers_before_its_packets() {
    let (left, right) = two_hosts();
    let b = Node::new(&right);
    b.ensure(&b.plan(&["10.77.0.2/24", "fd77::2/64"])).unwrap();
    let key = overlayd_core::keys::PrivateKey::generate();
    b.set(peer(key.public_key(), "192.0.2.1:51820", &["10.77.0.1/32"]));
    for offloads in [KernelOffloads::NONE, KernelOffloads::ALL, KernelOffloads::NONE] {
        let a = Node::with(&left, |config| {
            config.instance = InstanceId::of_data_dir("/uwg-offload-restart".as_ref());
            config.at_exit = AtExit::Persist;
            config.offloads = offloads;
        });
        let mut plan = a.plan(&["10.77.0.1/24"]);
        plan.private_key = key.clone();
        eventually("the device is made again", || a.ensure(&plan).is_ok());
        a.set(peer(b.public(), "192.0.2.2:51820", &["10.77.0.2/32"]));
        left.must_ping("10.77.0.2");
        assert!(stream(&left, &right, "10.77.0.2", 500_000) == content(500_000), "{offloads:?}");
        assert!(stream(&right, &left, "10.77.0.1", 500_000) == content(500_000), "{offloads:?}");
    }
}
