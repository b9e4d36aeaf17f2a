//! Hosts in network namespaces of their own, joined by a veth pair, each with a backend.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use overlayd_core::{
    contract::{
        DeviceInfo, DeviceMtu, DevicePlan, DeviceStatus, OverlayBackend, PeerChange, PeerEndpoint, PeerPlan, PeerStatus,
    },
    keys::{PrivateKey, PublicKey},
    names::{InstanceId, LinkName},
};
use overlayd_kernel_wg::KernelWg;
use overlayd_netlink::{Netns, Rtnl, address, link};
use overlayd_userspace_wg::{AtExit, UserspaceWg};
use rustix::process::{Pid, Signal};

/// Name of the device on every host.
pub(crate) const DEVICE: &str = "wg-test";
/// How long a test waits for something to come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which backend a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Kernel,
    Userspace,
}

type Job = Box<dyn FnOnce(&tokio::runtime::Runtime, &mut Option<Arc<dyn OverlayBackend>>) + Send>;

/// A namespace with one end of the cable, and a thread in it that runs the backend.
pub(crate) struct Host {
    pub(crate) rtnl: Rtnl,
    pub(crate) key: PrivateKey,
    kind: Kind,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    dir: tempfile::TempDir,
}

/// Two hosts on one cable: 192.0.2.1 and 192.0.2.2.
pub(crate) fn cable(left: Kind, right: Kind) -> (Host, Host) {
    let (near, far) = (Netns::create().unwrap(), Netns::create().unwrap());
    let rtnl = Rtnl::inside(&near).unwrap();
    rtnl.run(link::NewVeth::pair("cable", "cable").into_netns(&far).request()).unwrap();
    (Host::new(near, 1, left), Host::new(far, 2, right))
}

/// Two hosts that know each other: inside they are 10.77.0.1 and fd77::1, 10.77.0.2 and fd77::2.
pub(crate) fn pair(left: Kind, right: Kind) -> (Host, Host) {
    let (a, b) = cable(left, right);
    a.ensure(&a.plan(&["10.77.0.1/24", "fd77::1/64"])).unwrap();
    b.ensure(&b.plan(&["10.77.0.2/24", "fd77::2/64"])).unwrap();
    a.set(peer(b.public(), "192.0.2.2:51820", &["10.77.0.2/32", "fd77::2/128"]));
    b.set(peer(a.public(), "192.0.2.1:51820", &["10.77.0.1/32", "fd77::1/128"]));
    (a, b)
}

impl Host {
    fn new(netns: Netns, last: u8, kind: Kind) -> Self {
        let rtnl = Rtnl::inside(&netns).unwrap();
        let cable = rtnl.link("cable").unwrap().unwrap().index;
        rtnl.run(link::up("lo")).unwrap();
        rtnl.run(link::change(cable).no_link_local().request()).unwrap();
        rtnl.run(link::up(cable)).unwrap();
        rtnl.run(address::ensure(cable, format!("192.0.2.{last}/24").parse().unwrap())).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (jobs, todo) = mpsc::channel::<Job>();
        let thread = std::thread::spawn(move || {
            let work = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let mut backend = None;
                todo.into_iter().for_each(|job| job(&runtime, &mut backend));
            };
            netns.run(work).unwrap();
        });
        let host = Self { rtnl, key: PrivateKey::generate(), kind, jobs: Some(jobs), thread: Some(thread), dir };
        host.restart();
        host
    }

    /// Ends the backend, as with its process, and starts another one of the same instance.
    pub(crate) fn restart(&self) {
        self.restart_with(None);
    }

    /// The same with this mark for encrypted packets.
    pub(crate) fn restart_with(&self, fwmark: Option<u32>) {
        let instance = InstanceId::of_data_dir(self.dir.path());
        let (kind, uapi_dir) = (self.kind, self.dir.path().join("uapi"));
        self.on_thread(move |_, slot| {
            *slot = None;
            *slot = Some(match kind {
                Kind::Kernel => {
                    let config = overlayd_kernel_wg::Config { fwmark, ..overlayd_kernel_wg::Config::new(instance) };
                    Arc::new(KernelWg::new(config))
                }
                Kind::Userspace => {
                    let mut config = overlayd_userspace_wg::Config::new(instance);
                    (config.uapi_dir, config.at_exit, config.fwmark) = (uapi_dir, AtExit::Vanish, fwmark);
                    Arc::new(UserspaceWg::new(config))
                }
            });
        });
    }

    fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&tokio::runtime::Runtime, &mut Option<Arc<dyn OverlayBackend>>) -> T + Send + 'static,
    ) -> T {
        let (reply, result) = mpsc::channel();
        let job: Job = Box::new(move |runtime, backend| {
            reply.send(work(runtime, backend)).unwrap();
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result.recv_timeout(Duration::from_secs(120)).expect("the backend answers")
    }

    /// Does something in the host's namespace, on its thread.
    pub(crate) fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.on_thread(move |_, _| work())
    }

    /// A plan with port 51820 and the MTU that the cable leaves.
    pub(crate) fn plan(&self, addresses: &[&str]) -> DevicePlan {
        DevicePlan {
            name: device(),
            private_key: self.key.clone(),
            listen_port: 51820,
            addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
            routes: Vec::new(),
            mtu: DeviceMtu::FromUnderlay,
        }
    }

    pub(crate) fn ensure(&self, plan: &DevicePlan) -> overlayd_core::contract::Result<DeviceInfo> {
        let plan = plan.clone();
        self.on_thread(move |runtime, backend| runtime.block_on(backend.as_ref().unwrap().ensure_device(&plan)))
    }

    pub(crate) fn change(&self, changes: Vec<PeerChange>) -> overlayd_core::contract::Result<()> {
        self.on_thread(move |runtime, backend| {
            runtime.block_on(backend.as_ref().unwrap().change_peers(&device(), &changes))
        })
    }

    pub(crate) fn remove(&self) {
        self.on_thread(|runtime, backend| runtime.block_on(backend.as_ref().unwrap().remove_device(&device())))
            .unwrap();
    }

    pub(crate) fn set(&self, plan: PeerPlan) {
        self.change(vec![PeerChange::Set(plan)]).unwrap();
    }

    pub(crate) fn status(&self) -> DeviceStatus {
        let seen = self.on_thread(|runtime, backend| runtime.block_on(backend.as_ref().unwrap().observe())).unwrap();
        seen.into_iter().find(|seen| seen.name == device()).expect("the device is observed")
    }

    pub(crate) fn peer(&self, key: &PublicKey) -> PeerStatus {
        self.status().peers.iter().find(|peer| peer.public_key == *key).cloned().expect("the peer is observed")
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.key.public_key()
    }

    /// Runs a program on the host to its end.
    pub(crate) fn run(&self, program: &str) -> Output {
        self.rtnl.netns().run(|| command(program).output()).unwrap().unwrap()
    }

    /// Runs a program that must succeed; returns what it wrote.
    #[track_caller]
    pub(crate) fn must(&self, program: &str) -> String {
        let output = self.run(program);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{program}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    #[track_caller]
    pub(crate) fn must_ping(&self, to: &str) {
        eventually(&format!("{to} answers a ping"), || self.run(&format!("ping -c 1 -W 1 {to}")).status.success());
    }

    /// Starts a ping every 5 ms that is answered already, until [`Flow::lost`].
    pub(crate) fn flow_to(&self, to: &str) -> Flow {
        let flow = self.requests_to(to);
        flow.answered.recv_timeout(PATIENCE).expect("the first answer");
        flow
    }

    /// The same, whether answered or not.
    pub(crate) fn requests_to(&self, to: &str) -> Flow {
        let mut ping = command(&format!("ping -n -i 0.005 -W 2 {to}"));
        ping.stdout(Stdio::piped());
        let mut ping = self.rtnl.netns().run(|| ping.spawn()).unwrap().unwrap();
        let lines = BufReader::new(ping.stdout.take().unwrap()).lines();
        let (first, answered) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut seen = Seen::default();
            for line in lines.map_while(Result::ok) {
                let number = |mark: &str| line.split(mark).nth(1)?.split(' ').next()?.parse::<u32>().ok();
                if let Some(number) = number("icmp_seq=").filter(|_| line.contains("bytes from")) {
                    seen.answers.insert(number);
                    // No process listens after the first.
                    first.send(()).unwrap_or_default();
                } else if line.contains("packets transmitted") {
                    seen.sent = line.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default();
                }
            }
            seen
        });
        Flow { ping, answered, reader }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A running ping.
pub(crate) struct Flow {
    ping: Child,
    answered: mpsc::Receiver<()>,
    reader: JoinHandle<Seen>,
}

/// What a ping told.
#[derive(Debug, Default)]
struct Seen {
    sent: u32,
    answers: BTreeSet<u32>,
}

impl Flow {
    /// Ends it; how many requests it sent.
    pub(crate) fn sent(self) -> u32 {
        self.seen().sent
    }

    /// Ends it; how many requests before the last answered one, and how many of them without an answer. Those after it
    /// may have been under way at the end.
    pub(crate) fn lost(self) -> (u32, u32) {
        let answers = self.seen().answers;
        let last = answers.last().copied().unwrap_or_default();
        (last, last - answers.len() as u32)
    }

    fn seen(mut self) -> Seen {
        rustix::process::kill_process(Pid::from_child(&self.ping), Signal::INT).unwrap();
        self.ping.wait().unwrap();
        self.reader.join().unwrap()
    }
}

pub(crate) fn device() -> LinkName {
    LinkName::new(DEVICE).unwrap()
}

/// A peer with these ranges at this endpoint; an empty one keeps what is known.
pub(crate) fn peer(public_key: PublicKey, endpoint: &str, ranges: &[&str]) -> PeerPlan {
    let endpoint = match endpoint {
        "" => PeerEndpoint::Keep,
        text => PeerEndpoint::Set(text.parse().unwrap()),
    };
    let allowed_ips = ranges.iter().map(|range| range.parse().unwrap()).collect();
    PeerPlan { public_key, preshared_key: None, endpoint, allowed_ips, keepalive: None }
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[expect(clippy::disallowed_methods, reason = "tests look at the host with the operators' tools")]
pub(crate) fn command(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}
