//! How long traffic stands still while the daemon is killed and started again, and that what was under way goes on.
//!
//! ```text
//!   container ── web bridge ── host 0 (killed, started) ════ switch ════ host 1 ── web bridge ── container
//!        ▲                        ▲                                         │                        │
//!        └── pulse, TCP ──────────┼─────────────────────────────────────────┼────────────────────────┘
//!                                 └── pulse ────────────────────────────────┘   a datagram every 2 ms
//! ```

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use overlayd_testkit::lab::{
    self, Host, Lab, LabCluster, Namespace, Underlay,
    probe::{PacketPulse, PulseRecord, UdpEcho, pings},
};

use crate::container;

/// Between two datagrams of a pulse.
const PERIOD: Duration = Duration::from_millis(2);
/// How often the daemon is ended, each way.
const ROUNDS: usize = 3;
/// Beyond this something is wrong; what it is gets printed.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    Terminate,
}

struct World {
    lab: Lab,
    near: Namespace,
    far: Namespace,
    near_ip: IpAddr,
    node_ip: IpAddr,
}

fn at_work() -> World {
    let mut lab = crate::lab(2, &Underlay::default());
    LabCluster::V4.join(&mut lab.hosts, &["web"], Host::v4);
    let (near, far) = (container(), container());
    let near_ip = lab.hosts[0].client().attach(near.pid(), "web");
    let far_ip = lab.hosts[1].client().attach(far.pid(), "web");
    assert!(pings(&near, far_ip) && pings(&far, near_ip));
    let node_ip = lab.hosts[0].client().status().node_ip.expect("a node address");
    assert!(pings(&lab.hosts[1].namespace, node_ip));
    World { lab, near, far, near_ip, node_ip }
}

#[test]
fn a_restart_interrupts_traffic_for_a_moment_and_breaks_no_connection() {
    if !lab::available() {
        return;
    }
    let mut world = at_work();
    for end in [End::Kill, End::Terminate] {
        let (mut nodes, mut containers, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (node, container, answer) = world.restart(end);
            nodes.push(node);
            containers.push(container);
            answers.push(answer);
        }
        for (what, mut took) in [("nodes", nodes), ("containers", containers), ("the socket answers", answers)] {
            took.sort_unstable();
            println!("{end:?}: {what}: median {:?}, worst {:?}", took[ROUNDS / 2], took[ROUNDS - 1]);
        }
        let status = world.lab.hosts[0].client().status();
        assert_eq!((status.peer_count, status.services[0].attachments), (1, 1));
    }
}

impl World {
    /// Ends the daemon and starts it at once: the longest silences between nodes and between containers, and the time
    /// from the start to the first answer on the socket.
    fn restart(&mut self, end: End) -> (Duration, Duration, Duration) {
        let (near_echo, node_echo) =
            (UdpEcho::start(&self.near, self.near_ip), UdpEcho::start(&self.lab.hosts[0].namespace, self.node_ip));
        let to_container = SocketAddr::new(self.near_ip, near_echo.port);
        let to_node = SocketAddr::new(self.node_ip, node_echo.port);
        let containers = PacketPulse::start(&self.far, to_container, PERIOD);
        let nodes = PacketPulse::start(&self.lab.hosts[1].namespace, to_node, PERIOD);
        let transfer = Trickle::start(&self.far, &self.near, self.near_ip);
        // The streams flow before they are interrupted, and afterwards: their length is no event.
        std::thread::sleep(Duration::from_millis(300));
        let host = &mut self.lab.hosts[0];
        match end {
            End::Kill => host.kill(),
            End::Terminate => assert!(host.terminate().success()),
        }
        let start = Instant::now();
        host.start().status();
        let answered = start.elapsed();
        assert!(pings(&self.far, self.near_ip), "traffic is back after {end:?}");
        std::thread::sleep(Duration::from_millis(300));
        let (nodes, containers) = (nodes.end(), containers.end());
        println!("{end:?}: answers after {answered:?}, nodes {nodes:?}, containers {containers:?}");
        transfer.end();
        (checked(nodes), checked(containers), answered)
    }
}

fn checked(heard: PulseRecord) -> Duration {
    assert!(heard.silence < PATIENCE && heard.answered > 50, "{heard:?}");
    heard.silence
}

/// A TCP connection that a few bytes go through all the time, none of which may be lost.
struct Trickle {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<u64>,
}

impl Trickle {
    fn start(from: &Namespace, to: &Namespace, address: IpAddr) -> Self {
        let listener = to.enter(|| TcpListener::bind(SocketAddr::new(address, 0))).expect("a listener");
        let target = listener.local_addr().expect("an address");
        let receiver = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            count(stream)
        });
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let stream = from.enter(|| TcpStream::connect(target)).expect("a connection");
        let sender = std::thread::spawn(move || trickle(stream, &stopped));
        Self { stop, sender, receiver }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("the connection holds");
        let received = self.receiver.join().expect("the connection holds");
        assert_eq!(received, sent, "bytes were lost");
        assert!(sent > 0);
    }
}

fn trickle(mut stream: TcpStream, stop: &AtomicBool) -> u64 {
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    let mut sent = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&sent.to_be_bytes()).expect("the connection holds");
        sent += 8;
        std::thread::sleep(Duration::from_millis(1));
    }
    sent
}

fn count(mut stream: TcpStream) -> u64 {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut received = 0_u64;
    let mut number = [0; 8];
    while stream.read_exact(&mut number).is_ok() {
        assert_eq!(u64::from_be_bytes(number), received, "a byte is not the one that was sent");
        received += 8;
    }
    received
}
