//! The rules of `OverlayBackend`, each in a network namespace of its own.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    time::Duration,
};

use async_trait::async_trait;
use overlayd_core::{
    contract::{DeviceInfo, OverlayBackend},
    keys::PrivateKey,
    names::{InstanceId, LinkName},
};
use overlayd_kernel_wg::{Config, KernelWg};
use overlayd_netlink::{Netns, Rtnl, link};
use overlayd_testkit::contract::{HostFacts, overlay::OverlayHarness};
use overlayd_userspace_wg::{
    datagram::{DatagramClass, classify},
    noise::{CurrentTime, EndpointUpdate, HandshakeLimits, PacketBatch, PeerConfig, Tunnel},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::hosts::{command, eventually};

struct Here {
    backend: KernelWg,
    neighbour: KernelWg,
}

impl Here {
    async fn new() -> Self {
        let netns = Netns::create().unwrap();
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        Rtnl::here().unwrap().run(link::up("lo")).unwrap();
        Self { backend: backend("/ours"), neighbour: backend("/theirs") }
    }
}

fn backend(data_dir: &str) -> KernelWg {
    KernelWg::new(Config::new(InstanceId::of_data_dir(data_dir.as_ref())))
}

#[async_trait]
impl OverlayHarness for Here {
    fn backend(&self) -> &dyn OverlayBackend {
        &self.backend
    }

    fn neighbour(&self) -> &dyn OverlayBackend {
        &self.neighbour
    }

    async fn restart(&mut self) {
        self.backend = backend("/ours");
    }

    async fn host(&self) -> HostFacts {
        let views = ["-d -o link", "-o addr", "-4 route show table all", "-6 route show table all", "rule"];
        views
            .iter()
            .flat_map(|view| ip(view).lines().map(|line| format!("{view}: {}", stable(line))).collect::<Vec<_>>())
            .collect()
    }

    async fn put_foreign_link(&self, name: &LinkName) {
        ip(&format!("link add {name} type wireguard"));
    }

    async fn handshake_from(&self, device: &DeviceInfo, remote: &PrivateKey, from: Ipv4Addr) -> SocketAddr {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        Remote::new(device, remote, socket).shake_hands();
        // Reading by `wg` leaves the backend's own view to the rule under test.
        let seen = format!("{}\t{address}", remote.public_key().to_base64());
        let show = format!("wg show {} endpoints", device.name);
        eventually("the device has seen the remote", || text(&show).contains(&seen));
        address
    }
}

/// Another WireGuard node, on a socket.
struct Remote {
    engine: Tunnel,
    socket: UdpSocket,
    packets: PacketBatch,
    datagrams: PacketBatch,
}

impl Remote {
    fn new(device: &DeviceInfo, key: &PrivateKey, socket: UdpSocket) -> Self {
        let mut engine = Tunnel::new(*key.as_bytes(), 1420, HandshakeLimits::default());
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, device.listen_port));
        let allowed_ips = vec!["0.0.0.0/0".parse().unwrap()];
        let peer = PeerConfig {
            key: device.public_key,
            psk: None,
            endpoint: EndpointUpdate::Set(to),
            keepalive: None,
            allowed_ips,
        };
        engine.set_peer(CurrentTime::read().steady, &peer);
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self {
            engine,
            socket,
            packets: PacketBatch::with_slots(4),
            datagrams: PacketBatch::with_slots(Tunnel::STEP + 8),
        }
    }

    fn shake_hands(&mut self) {
        // An IPv4 header and nothing more, from a range of the peer.
        let mut packet = [0; 256];
        packet[..20].copy_from_slice(&[0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 77, 8, 1, 10, 77, 4, 1]);
        self.engine.packet(CurrentTime::read(), &mut packet, 20, &mut self.datagrams);
        self.send();
        let mut answer = [0; 2048];
        let (len, from) =
            overlayd_testkit::uninterrupted(|| self.socket.recv_from(&mut answer)).expect("an answer to the handshake");
        let DatagramClass::WireGuard(message) = classify(&answer[..len]) else { panic!("a device sends messages") };
        self.engine.message(CurrentTime::read(), from, message, &mut self.packets, &mut self.datagrams);
        self.send();
    }

    fn send(&mut self) {
        assert!(!self.datagrams.is_empty(), "the remote has something to say");
        for (datagram, to) in self.datagrams.iter() {
            self.socket.send_to(datagram, to.unwrap()).unwrap();
        }
        self.datagrams.clear();
    }
}

/// Counters, indices and states that the kernel changes by itself are left out.
fn stable(line: &str) -> String {
    let words = line.split_once(": ").map_or(line, |(_, rest)| rest);
    let volatile = ["UP", "DOWN", "UNKNOWN"];
    words.split_whitespace().filter(|word| !volatile.contains(word)).collect::<Vec<_>>().join(" ")
}

fn ip(arguments: &str) -> String {
    text(&format!("ip {arguments}"))
}

fn text(line: &str) -> String {
    let output = command(line).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

overlayd_testkit::overlay_contract!(Here::new());
