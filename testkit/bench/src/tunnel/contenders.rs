//! Who builds a tunnel, and how.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Child,
};

use overlayd_core::{keys::PrivateKey, protocol::Response};
use overlayd_lab::{Host, Lab, LabCluster, LinkShape, Namespace, NamespaceConfinement, Underlay, probe::pings};

use crate::{
    Bench,
    peers::{Peer, Source},
};

/// One who builds a tunnel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Contender {
    /// This project, host to host.
    Overlayd,
    /// This project, container to container.
    Containers,
    /// The daemon whose protocol this one speaks.
    Zlayer,
    /// A program that makes a device of the given name and is configured with `wg`.
    WireGuard(Peer, &'static [&'static str]),
    /// No tunnel.
    Cable,
}

/// All of them; the first is what the others are compared with.
pub(super) const ALL: &[Contender] = &[
    Contender::Overlayd,
    Contender::Containers,
    Contender::Zlayer,
    Contender::WireGuard(
        Peer { program: "boringtun-cli", source: Source::Crate("boringtun-cli", "0.7.1") },
        &["--foreground", "--disable-drop-privileges", DEVICE],
    ),
    Contender::WireGuard(
        Peer { program: "gotatun", source: Source::Crate("gotatun-cli", "0.10.2") },
        &["--foreground", "--disable-drop-privileges", DEVICE],
    ),
    Contender::WireGuard(Peer { program: "wireguard-go", source: Source::Debian("wireguard-go") }, &["-f", DEVICE]),
    // A current one, which Debian 12 does not have.
    Contender::WireGuard(Peer { program: "wireguard-go-new", source: Source::Built }, &["-f", DEVICE]),
    Contender::Cable,
];

/// The published daemon.
pub(crate) const ZLAYER: Peer = Peer { program: "zlayer-overlayd", source: Source::Crate("zlayer-overlayd", "0.14.3") };
/// Name of our own tunnel when it is used from containers.
pub(crate) const CONTAINERS: &str = "overlayd, container to container";
const DEVICE: &str = "wg0";
const PORT: u16 = 51820;

/// A tunnel that carries packets.
pub(super) struct Tunnel {
    pub(super) name: &'static str,
    /// Who encrypts.
    pub(super) processes: Vec<u32>,
    /// Where the far end is reached.
    pub(super) far: IpAddr,
    lab: Lab,
    containers: Option<[Namespace; 2]>,
    /// They end with the tunnel.
    programs: Vec<Program>,
}

impl Tunnel {
    /// The namespaces that the traffic runs between.
    pub(super) fn ends(&self) -> [&Namespace; 2] {
        match &self.containers {
            Some([one, other]) => [one, other],
            None => [&self.lab.hosts[0].namespace, &self.lab.hosts[1].namespace],
        }
    }
}

/// A program that ends with this.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Contender {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overlayd => "overlayd",
            Self::Containers => CONTAINERS,
            Self::Zlayer => ZLAYER.program,
            Self::WireGuard(peer, _) => peer.program,
            Self::Cable => "the cable by itself",
        }
    }

    /// Builds two hosts and the tunnel; otherwise why not.
    pub(super) fn raise(self, bench: &Bench) -> Result<Tunnel, String> {
        let tunnel = match self {
            Self::Overlayd => self.daemons(&bench.overlayd, settings)?,
            Self::Containers => contained(self.daemons(&bench.overlayd, settings)?),
            Self::Zlayer => self.daemons(&bench.peers.find(&ZLAYER)?, shared_control)?,
            Self::WireGuard(peer, arguments) => self.by_hand(&bench.peers.find(&peer)?, arguments)?,
            Self::Cable => self.bare(&bench.overlayd),
        };
        let [near, _] = tunnel.ends();
        if pings(near, tunnel.far) { Ok(tunnel) } else { Err("its tunnel answers no ping".to_owned()) }
    }

    fn daemons(self, program: &Path, prepare: fn(&Host)) -> Result<Tunnel, String> {
        let mut lab = cable(program);
        lab.hosts.iter().for_each(prepare);
        let services: &[&str] = if matches!(self, Self::Containers) { &["web"] } else { &[] };
        LabCluster::V4.join(&mut lab.hosts, services, Host::v4);
        let far = match lab.hosts[1].client().ask(overlayd_core::protocol::Request::Status) {
            Response::Status(status) => status.node_ip,
            other => return Err(format!("`status` was answered {other:?}")),
        };
        let processes = lab.hosts.iter().map(Host::daemon_pid).collect();
        let far = far.ok_or("it has no address")?;
        Ok(Tunnel { name: self.name(), processes, far, lab, containers: None, programs: Vec::new() })
    }

    fn bare(self, program: &Path) -> Tunnel {
        let lab = cable(program);
        let far = lab.hosts[1].v4();
        Tunnel { name: self.name(), processes: Vec::new(), far, lab, containers: None, programs: Vec::new() }
    }

    fn by_hand(self, program: &Path, arguments: &[&str]) -> Result<Tunnel, String> {
        let lab = cable(program);
        let path = program.to_str().ok_or("its path is not UTF-8")?;
        let mut tunnel = Tunnel {
            name: self.name(),
            processes: Vec::new(),
            far: Ipv4Addr::new(10, 50, 0, 2).into(),
            lab,
            containers: None,
            programs: Vec::new(),
        };
        let keys = [PrivateKey::generate(), PrivateKey::generate()];
        for (here, there) in [(0, 1), (1, 0)] {
            let host = &tunnel.lab.hosts[here];
            let command: Vec<&str> = std::iter::once(path).chain(arguments.iter().copied()).collect();
            let program = host.namespace.command(&command).spawn().map_err(|error| error.to_string())?;
            tunnel.processes.push(program.id());
            tunnel.programs.push(Program(program));
            configure(&tunnel.lab, here, &keys[here], &keys[there])?;
        }
        Ok(tunnel)
    }
}

fn cable(program: &Path) -> Lab {
    Lab::new(2, &Underlay { shape: LinkShape::Cable, ..Underlay::default() }, program)
}

/// Here it is user space that is compared, even where the kernel could do it.
fn settings(host: &Host) {
    fs::create_dir_all(host.data_dir()).expect("a data directory");
    fs::write(host.data_dir().join("overlayd.toml"), "wireguard = \"userspace\"\n").expect("a file");
}

/// It looks for its own control socket where its library does not put it.
pub(crate) fn shared_control(host: &Host) {
    let directory = host.data_dir().join("run/wireguard");
    fs::create_dir_all(&directory).expect("a data directory");
    host.run(&["mount", "--bind", "/run/wireguard", directory.to_str().expect("a path in UTF-8")]);
}

/// Moves the ends into a container on either host.
fn contained(mut tunnel: Tunnel) -> Tunnel {
    let containers = [(); 2].map(|()| Namespace::container(NamespaceConfinement::None));
    let attach = |number: usize| tunnel.lab.hosts[number].client().attach(containers[number].pid(), "web");
    attach(0);
    tunnel.far = attach(1);
    tunnel.containers = Some(containers);
    tunnel
}

fn configure(lab: &Lab, here: usize, key: &PrivateKey, peer: &PrivateKey) -> Result<(), String> {
    let (there, endpoint) = (2 - here, lab.hosts[1 - here].v4());
    let (key, peer) = (key.reveal_base64(), peer.public_key().to_base64());
    let script = format!(
        "for attempt in $(seq 100); do wg show {DEVICE} >/dev/null 2>&1 && break; sleep 0.05; done
        set -e
        echo {key} | wg set {DEVICE} private-key /dev/stdin listen-port {PORT} \
            peer {peer} endpoint {endpoint}:{PORT} allowed-ips 10.50.0.{there}/32
        ip address add 10.50.0.{}/24 dev {DEVICE}
        ip link set {DEVICE} mtu 1420 up",
        here + 1
    );
    lab.hosts[here].namespace.try_run(&["sh", "-c", &script]).map(drop)
}
