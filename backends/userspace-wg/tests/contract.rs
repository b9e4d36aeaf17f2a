//! The rules of `OverlayBackend`, each in a network namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use boringtun::{
    noise::{Tunn, TunnResult},
    x25519,
};
use overlayd_core::{
    contract::{DeviceInfo, DeviceMtu, DevicePlan, OverlayBackend},
    keys::PrivateKey,
    names::{InstanceId, LinkName},
};
use overlayd_netlink::{Netns, NetworkManagers, Rtnl, link};
use overlayd_testkit::contract::{HostFacts, overlay::OverlayHarness};
use overlayd_userspace_wg::{AtExit, Config, UserspaceWg};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The port that the suite restarts devices on.
const PORT: u16 = 51871;

struct Here {
    backend: Option<UserspaceWg>,
    neighbour: UserspaceWg,
    at_exit: AtExit,
    dir: tempfile::TempDir,
}

impl Here {
    async fn new(at_exit: AtExit) -> Self {
        let netns = Netns::create().unwrap();
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&netns), Some(LinkNameSpaceType::Network)).unwrap();
        Rtnl::here().unwrap().run(link::up("lo")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let backend = Some(UserspaceWg::new(config(&dir, "ours", at_exit)));
        let neighbour = UserspaceWg::new(config(&dir, "theirs", at_exit));
        Self { backend, neighbour, at_exit, dir }
    }
}

fn config(dir: &tempfile::TempDir, instance: &str, at_exit: AtExit) -> Config {
    let mut config = Config::new(InstanceId::of_data_dir(&dir.path().join(instance)));
    config.uapi_dir = dir.path().join("wireguard");
    config.at_exit = at_exit;
    config
}

#[async_trait]
impl OverlayHarness for Here {
    fn backend(&self) -> &dyn OverlayBackend {
        self.backend.as_ref().unwrap()
    }

    fn neighbour(&self) -> &dyn OverlayBackend {
        &self.neighbour
    }

    async fn restart(&mut self) {
        self.backend = None;
        wait_for_forks();
        self.backend = Some(UserspaceWg::new(config(&self.dir, "ours", self.at_exit)));
    }

    async fn host(&self) -> HostFacts {
        wait_for_local_routes();
        let mut facts = HostFacts::new();
        for arguments in ["-o link", "-o addr", "-4 route show table all", "-6 route show table all", "rule"] {
            facts.extend(ip(arguments).lines().map(|line| format!("{arguments}: {}", stable(line))));
        }
        if let Ok(files) = std::fs::read_dir(self.dir.path().join("wireguard")) {
            facts.extend(files.map(|file| format!("{:?}", file.unwrap().path())));
        }
        facts
    }

    async fn put_foreign_link(&self, name: &LinkName) {
        ip(&format!("tuntap add dev {name} mode tun"));
    }

    async fn handshake_from(&self, device: &DeviceInfo, remote: &PrivateKey, from: Ipv4Addr) -> SocketAddr {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, device.listen_port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let private = x25519::StaticSecret::from(*remote.as_bytes());
        let public = x25519::PublicKey::from(*device.public_key.as_bytes());
        let mut tunnel = Tunn::new(private, public, None, None, 1, None);
        let (mut out, mut answer) = ([0; 256], [0; 256]);
        let TunnResult::WriteToNetwork(initiation) = tunnel.format_handshake_initiation(&mut out, true) else {
            panic!("no initiation");
        };
        socket.send(initiation).unwrap();
        let len = overlayd_testkit::uninterrupted(|| socket.recv(&mut answer)).unwrap();
        let TunnResult::WriteToNetwork(keepalive) = tunnel.decapsulate(None, &answer[..len], &mut out) else {
            panic!("no session");
        };
        socket.send(keepalive).unwrap();
        let address = socket.local_addr().unwrap();
        self.wait_for_handshake(device, remote, address).await;
        address
    }
}

impl Here {
    async fn wait_for_handshake(&self, device: &DeviceInfo, remote: &PrivateKey, address: SocketAddr) {
        let start = Instant::now();
        loop {
            let seen = self.backend().observe().await.unwrap();
            let mut peers = seen.iter().filter(|seen| seen.name == device.name).flat_map(|seen| seen.peers.iter());
            let peer = peers.find(|peer| peer.public_key == remote.public_key()).expect("the remote is a peer");
            if peer.last_handshake.is_some() && peer.endpoint == Some(address) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "no handshake: {peer:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Waits until the closed sockets of the backend are closed indeed: a program that another test starts at this moment
/// holds copies of this process's descriptors until it is executed.
fn wait_for_forks() {
    let start = Instant::now();
    while UdpSocket::bind(("::", PORT)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "another process holds port {PORT}");
        std::thread::yield_now();
    }
}

/// Waits until every IPv6 address has its route in the table `local`, which the kernel adds in its own time.
fn wait_for_local_routes() {
    let start = Instant::now();
    let settled = || {
        let routes = ip("-6 route show table local");
        let addresses = ip("-6 -o addr");
        let own = addresses.lines().filter_map(|line| line.split_once("inet6 ")?.1.split('/').next());
        own.into_iter().all(|own| own == "::1" || routes.contains(&format!("local {own} ")))
    };
    while !settled() {
        assert!(start.elapsed() < Duration::from_secs(10), "an address has no local route");
        std::thread::yield_now();
    }
}

/// Counters, indices and states that the kernel changes by itself are left out.
fn stable(line: &str) -> String {
    let words = line.split_once(": ").map_or(line, |(_, rest)| rest);
    let volatile = ["UP", "DOWN", "UNKNOWN"];
    words.split_whitespace().filter(|word| !volatile.contains(word)).collect::<Vec<_>>().join(" ")
}

#[expect(clippy::disallowed_methods, reason = "the suite looks at the host with other eyes than the backend")]
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_range_that_would_cut_the_host_off_is_refused_and_one_beside_it_is_not() {
    let here = Here::new(AtExit::Vanish).await;
    for arguments in [
        "link add lan0 type veth peer name lan1",
        "addr add 192.0.2.4/24 dev lan0",
        "link set lan0 up",
        "link set lan1 up",
        "route add default via 192.0.2.1 dev lan0",
    ] {
        ip(arguments);
    }
    let before = here.host().await;
    let error = here.backend().ensure_device(&plan("192.0.2.77/16")).await.unwrap_err();
    assert_eq!(error.code(), "conflict");
    let text = error.to_string();
    assert!(text.contains("192.0.0.0/16") && text.contains("lan0") && text.contains("192.0.2.0/24"), "{text}");
    assert_eq!(here.host().await, before);
    here.backend().ensure_device(&plan("10.77.4.1/16")).await.unwrap();
}

#[tokio::test]
async fn network_managers_are_told_of_the_first_device_and_not_after_the_last() {
    let mut here = Here::new(AtExit::Vanish).await;
    let run = here.dir.path().join("run");
    std::fs::create_dir_all(run.join("systemd/netif")).unwrap();
    let mut config = config(&here.dir, "ours", AtExit::Vanish);
    config.managers = Some(NetworkManagers::below(&run));
    here.backend = Some(UserspaceWg::new(config));
    let file = run.join("systemd/network/10-zlayer-unmanaged.network");
    let device = plan("10.77.4.1/16");
    here.backend().ensure_device(&device).await.unwrap();
    assert!(file.exists());
    for _ in 0..2 {
        here.backend().remove_device(&device.name).await.unwrap();
        assert!(!file.exists());
    }
}

fn plan(address: &str) -> DevicePlan {
    DevicePlan {
        name: LinkName::new("zl-atlas-n1-g").unwrap(),
        private_key: PrivateKey::generate(),
        listen_port: 0,
        addresses: vec![address.parse().unwrap()],
        routes: vec![],
        mtu: DeviceMtu::FromUnderlay,
    }
}

mod a_device_that_vanishes {
    overlayd_testkit::overlay_contract!(super::Here::new(super::AtExit::Vanish));
}

mod a_device_that_persists {
    overlayd_testkit::overlay_contract!(super::Here::new(super::AtExit::Persist));
}
