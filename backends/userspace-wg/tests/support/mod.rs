//! Nodes in network namespaces of their own, joined by a veth pair.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "test support, of which every file uses its own part"
)]

use std::{
    io::{BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use overlayd_core::{
    contract::{
        DeviceInfo, DeviceMtu, DevicePlan, DeviceStatus, OverlayBackend, PeerChange, PeerEndpoint, PeerPlan, PeerStatus,
    },
    keys::{PresharedKey, PrivateKey, PublicKey},
    names::{InstanceId, LinkName},
};
use overlayd_netlink::{Netns, Rtnl, address, link};
use overlayd_userspace_wg::{Config, UserspaceWg};

/// Name of the device on every node.
pub const DEVICE: &str = "uwg0";
/// How long a test waits for something to come true.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A namespace with one end of the cable.
pub struct Host {
    pub netns: Netns,
    pub rtnl: Rtnl,
    pub cable: u32,
}

/// Two hosts on one cable: 192.0.2.1 and 192.0.2.2, fd00:db8::1 and fd00:db8::2.
pub fn two_hosts() -> (Host, Host) {
    let (left, right) = (Netns::create().unwrap(), Netns::create().unwrap());
    let rtnl = Rtnl::inside(&left).unwrap();
    rtnl.run(link::NewVeth::pair("cable", "cable").into_netns(&right).request()).unwrap();
    let hosts = (Host::on(left), Host::on(right));
    for (host, last) in [(&hosts.0, 1), (&hosts.1, 2)] {
        host.add_address(&format!("192.0.2.{last}/24"));
        host.add_address(&format!("fd00:db8::{last}/64"));
    }
    hosts
}

impl Host {
    fn on(netns: Netns) -> Self {
        let rtnl = Rtnl::inside(&netns).unwrap();
        let cable = rtnl.link("cable").unwrap().unwrap().index;
        rtnl.run(link::change(cable).no_link_local().request()).unwrap();
        rtnl.run(link::up(cable)).unwrap();
        rtnl.run(link::up("lo")).unwrap();
        Self { netns, rtnl, cable }
    }

    pub fn add_address(&self, net: &str) {
        self.rtnl.run(address::ensure(self.cable, net.parse().unwrap())).unwrap();
    }

    pub fn delete_address(&self, net: &str) {
        self.rtnl.run(address::delete(self.cable, net.parse().unwrap())).unwrap();
    }

    /// Runs a program in the namespace to its end.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.netns.run(|| command(program, arguments).output()).unwrap().unwrap()
    }

    /// Runs a program that must succeed; returns what it wrote.
    pub fn must(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {text}{error}");
        text
    }

    /// Starts a program in the namespace.
    pub fn start(&self, program: &str, arguments: &[&str]) -> RunningDevice {
        let mut command = command(program, arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        RunningDevice(self.netns.run(|| command.spawn()).unwrap().unwrap())
    }

    /// Whether one of a few echo requests is answered.
    pub fn pings(&self, to: &str) -> bool {
        self.run("ping", &["-c", "3", "-i", "0.2", "-W", "2", to]).status.success()
    }

    /// Waits until a ping is answered.
    pub fn must_ping(&self, to: &str) {
        eventually(&format!("{to} answers a ping"), || self.run("ping", &["-c", "1", "-W", "1", to]).status.success());
    }
}

#[expect(clippy::disallowed_methods, reason = "tests run the programs that operators use")]
fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// A program that ends with the test.
pub struct RunningDevice(pub Child);

impl RunningDevice {
    /// Waits for its end and returns what it wrote.
    pub fn output(mut self) -> String {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.0.stdout.take().unwrap(), &mut text).unwrap();
        self.0.wait().unwrap();
        text
    }
}

impl Drop for RunningDevice {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

type Job = Box<dyn FnOnce(&tokio::runtime::Runtime, &UserspaceWg) + Send>;

/// A backend on a thread of its own inside a namespace.
pub struct Node {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    pub uapi_dir: PathBuf,
    pub key: PrivateKey,
    _dir: tempfile::TempDir,
}

impl Node {
    pub fn new(host: &Host) -> Self {
        Self::with(host, |_| {})
    }

    pub fn with(host: &Host, adjust: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(InstanceId::of_data_dir(dir.path()));
        config.uapi_dir = dir.path().join("wireguard");
        adjust(&mut config);
        let uapi_dir = config.uapi_dir.clone();
        let (jobs, todo) = mpsc::channel::<Job>();
        let netns = host.netns.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            netns
                .run(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let backend = UserspaceWg::new(config);
                    while let Ok(job) = todo.recv() {
                        job(&runtime, &backend);
                    }
                })
                .unwrap();
        });
        let key = PrivateKey::generate();
        Self { jobs: Some(jobs), thread: Some(thread), uapi_dir, key, _dir: dir }
    }

    /// Works with the backend on its thread.
    pub fn with_backend<T: Send + 'static>(
        &self,
        work: impl FnOnce(&tokio::runtime::Runtime, &UserspaceWg) -> T + Send + 'static,
    ) -> T {
        let (reply, result) = mpsc::channel();
        let job: Job = Box::new(move |runtime, backend| {
            let _ = reply.send(work(runtime, backend));
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result.recv_timeout(Duration::from_secs(60)).expect("the backend answers")
    }

    pub fn plan(&self, addresses: &[&str]) -> DevicePlan {
        DevicePlan {
            name: LinkName::new(DEVICE).unwrap(),
            private_key: self.key.clone(),
            listen_port: 51820,
            addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
            routes: Vec::new(),
            mtu: DeviceMtu::FromUnderlay,
        }
    }

    pub fn ensure(&self, plan: &DevicePlan) -> Result<DeviceInfo, overlayd_core::contract::Error> {
        let plan = plan.clone();
        self.with_backend(move |runtime, backend| runtime.block_on(backend.ensure_device(&plan)))
    }

    pub fn change(&self, changes: Vec<PeerChange>) -> Result<(), overlayd_core::contract::Error> {
        self.with_backend(move |runtime, backend| {
            runtime.block_on(backend.change_peers(&LinkName::new(DEVICE).unwrap(), &changes))
        })
    }

    pub fn set(&self, plan: PeerPlan) {
        self.change(vec![PeerChange::Set(plan)]).unwrap();
    }

    pub fn observe(&self) -> Vec<DeviceStatus> {
        self.with_backend(|runtime, backend| runtime.block_on(backend.observe())).unwrap()
    }

    pub fn status(&self) -> DeviceStatus {
        self.observe().into_iter().find(|device| device.name.as_str() == DEVICE).expect("the device is observed")
    }

    pub fn dropped(&self, reason: &str) -> u64 {
        self.status().dropped.get(reason).copied().unwrap_or(0)
    }

    pub fn peer(&self, key: &PublicKey) -> PeerStatus {
        self.status().peers.iter().find(|peer| peer.public_key == *key).cloned().expect("the peer is observed")
    }

    pub fn public(&self) -> PublicKey {
        self.key.public_key()
    }

    /// A request on the control socket and its answer.
    pub fn uapi(&self, request: &str) -> String {
        uapi(&self.uapi_dir.join(format!("{DEVICE}.sock")), request)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let _ = self.thread.take().unwrap().join();
    }
}

pub fn uapi(socket: &std::path::Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if line.is_empty() {
            break;
        }
        answer.push_str(&line);
        answer.push('\n');
    }
    answer
}

/// A peer with these ranges at this endpoint.
pub fn peer(key: PublicKey, endpoint: &str, allowed_ips: &[&str]) -> PeerPlan {
    let endpoint = match endpoint {
        "" => PeerEndpoint::Keep,
        address => PeerEndpoint::Set(address.parse().unwrap()),
    };
    let allowed_ips = allowed_ips.iter().map(|net| net.parse::<IpNet>().unwrap()).collect();
    PeerPlan { public_key: key, preshared_key: None, endpoint, allowed_ips, keepalive: None }
}

pub fn psk(seed: u8) -> Option<PresharedKey> {
    Some(PresharedKey::from_bytes([seed; 32]))
}

/// Waits until `condition` holds.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Two nodes that know each other; inner addresses 10.77.0.1/.2 and fd77::1/::2.
pub struct Pair {
    pub a: Node,
    pub b: Node,
    pub left: Host,
    pub right: Host,
}

impl Pair {
    /// With the underlay addressed as `192.0.2.` or `fd00:db8::`.
    pub fn over(underlay: &str) -> Self {
        Self::with(underlay, |_| {}, |_| {})
    }

    /// With each node adjusted.
    pub fn with(underlay: &str, left_is: impl FnOnce(&mut Config), right_is: impl FnOnce(&mut Config)) -> Self {
        let (left, right) = two_hosts();
        let (a, b) = (Node::with(&left, left_is), Node::with(&right, right_is));
        a.ensure(&a.plan(&["10.77.0.1/24", "fd77::1/64"])).unwrap();
        b.ensure(&b.plan(&["10.77.0.2/24", "fd77::2/64"])).unwrap();
        let at = |last: u8| match underlay.parse::<IpAddr>().is_ok() || underlay.contains(':') {
            true => format!("[{underlay}{last}]:51820"),
            false => format!("{underlay}{last}:51820"),
        };
        a.set(peer(b.public(), &at(2), &["10.77.0.2/32", "fd77::2/128"]));
        b.set(peer(a.public(), &at(1), &["10.77.0.1/32", "fd77::1/128"]));
        Self { a, b, left, right }
    }

    pub fn new() -> Self {
        Self::over("192.0.2.")
    }
}

pub fn endpoint(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
