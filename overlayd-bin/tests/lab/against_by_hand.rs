//! How fast containers reach each other through what overlayd sets up, compared with the kernel's WireGuard, a bridge and
//! veth pairs set up by hand, on the same underlay and in turns. `--ignored --nocapture` shows it.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use overlayd_core::keys::PrivateKey;
use overlayd_testkit::lab::{
    Host, Lab, LabCluster, Namespace, Underlay,
    probe::{UdpEcho, pings},
};

use crate::container;

/// Rounds unless `OVERLAYD_BENCH_ROUNDS` says how many.
const ROUNDS: usize = 15;
/// A connection grows to its speed.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long is measured.
const TIME: Duration = Duration::from_millis(800);

/// Where a measurement starts and ends, and what is special about the way between.
struct Way {
    what: &'static str,
    from: Namespace,
    to: Namespace,
    address: IpAddr,
    rates: Vec<f64>,
    trips: Vec<f64>,
    _lab: Lab,
}

#[test]
#[ignore = "a measurement, for a machine with WireGuard in the kernel or a guest: see docs/performance.md"]
fn containers_are_as_fast_as_by_hand() {
    let rounds = std::env::var("OVERLAYD_BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let without = |tables: &'static str| {
        move |host: &mut Host| {
            host.kill();
            let listed = host.run(&["nft", "list", "tables"]);
            let tables =
                listed.lines().filter_map(|table| table.strip_prefix("table ").filter(|t| t.starts_with(tables)));
            tables.for_each(|table| drop(host.run(&["sh", "-c", &format!("nft delete table {table}")])));
        }
    };
    let mut ways = [
        by_hand("by hand", ""),
        by_overlayd("overlayd", |_| {}),
        by_hand("by hand, connections tracked", TRACKED),
        by_overlayd("overlayd, without its rules for bridges", without("bridge")),
        by_overlayd("overlayd, without its rules for the host", without("inet")),
        by_overlayd("overlayd, without its rules", without("")),
    ];
    // The order changes from round to round, so that what else the machine does meets all alike.
    for round in 0..rounds {
        for turn in 0..ways.len() {
            let number = (turn + round) % ways.len();
            let (rate, trip) = (ways[number].megabits(), ways[number].micros());
            ways[number].rates.push(rate);
            ways[number].trips.push(trip);
        }
    }
    let (rates, trips) = (ways[0].rates.clone(), ways[0].trips.clone());
    for way in &ways {
        println!(
            "{:41} {}; {}",
            way.what,
            compared(&way.rates, &rates, "Mbit/s"),
            compared(&way.trips, &trips, "µs a trip")
        );
    }
}

/// Mean and its standard error, and the same as a ratio to `base`.
fn compared(figures: &[f64], base: &[f64], unit: &str) -> String {
    let ((mean, error), (base, _)) = (mean(figures), mean(base));
    format!("{mean:6.1} ± {error:.1} {unit} ({:.3} ± {:.3})", mean / base, error / base)
}

fn mean(figures: &[f64]) -> (f64, f64) {
    let count = figures.len() as f64;
    let mean = figures.iter().sum::<f64>() / count;
    let variance = figures.iter().map(|figure| (figure - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, (variance / count).sqrt())
}

/// What a firewall of the usual kind adds to a host, and nothing more.
const TRACKED: &str = "nft -f - <<EOF
table inet tracked {
    chain forward { type filter hook forward priority 0; ct state established,related accept; }
    chain source { type nat hook postrouting priority 100; oifname \"eth0\" masquerade; }
}
EOF";

impl Way {
    /// What one connection carries while it is sent as fast as it takes it.
    fn megabits(&self) -> f64 {
        assert!(pings(&self.from, self.address), "{} is not reached", self.address);
        let address = SocketAddr::new(self.address, 0);
        let listener = self.to.enter(|| TcpListener::bind(address)).expect("a listener");
        let to = listener.local_addr().expect("an address");
        let sender = self.from.spawn(move || {
            let mut stream = TcpStream::connect(to).expect("a connection");
            let (start, buffer) = (Instant::now(), vec![0; 1 << 17]);
            while start.elapsed() < WARM_UP + TIME {
                stream.write_all(&buffer).expect("the receiver reads");
            }
        });
        let (mut stream, _) = listener.accept().expect("a connection");
        let (mut buffer, start) = (vec![0; 1 << 17], Instant::now());
        let mut counted: Option<(Instant, usize)> = None;
        let mut end = start;
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            end = Instant::now();
            match &mut counted {
                Some((_, bytes)) => *bytes += len,
                None => counted = (start.elapsed() > WARM_UP).then_some((end, 0)),
            }
        }
        sender.join().expect("the sender sent");
        let (since, bytes) = counted.expect("bytes arrive");
        bytes as f64 * 8e-6 / (end - since).as_secs_f64()
    }

    /// How long a datagram of 64 bytes and its answer take, in the middle of many.
    fn micros(&self) -> f64 {
        let echo = UdpEcho::start(&self.to, self.address);
        let to = SocketAddr::new(self.address, echo.port);
        let trips = self.from.spawn(move || {
            let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
            let socket = UdpSocket::bind(SocketAddr::new(any, 0)).expect("a socket");
            socket.connect(to).expect("a route");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
            let mut trips = Vec::new();
            let start = Instant::now();
            while start.elapsed() < TIME / 2 {
                let sent = Instant::now();
                socket.send(&[0; 64]).expect("room for a few bytes");
                overlayd_testkit::uninterrupted(|| socket.recv(&mut [0; 64])).expect("an answer");
                trips.push(sent.elapsed().as_nanos() as f64 / 1e3);
            }
            trips
        });
        let mut trips = trips.join().expect("the trips end");
        trips.sort_by(f64::total_cmp);
        trips[trips.len() / 2]
    }
}

fn by_overlayd(what: &'static str, then: impl Fn(&mut Host)) -> Way {
    let mut lab = crate::lab(2, &Underlay::default());
    LabCluster::V4.join(&mut lab.hosts, &["web"], Host::v4);
    let (from, to) = (container(), container());
    lab.hosts[0].client().attach(from.pid(), "web");
    let address = lab.hosts[1].client().attach(to.pid(), "web");
    lab.hosts.iter_mut().for_each(then);
    Way { what, from, to, address, rates: Vec::new(), trips: Vec::new(), _lab: lab }
}

/// The same as overlayd makes, with `ip` and `wg`: nothing filters, nothing is marked, but for what `more` does on a host.
fn by_hand(what: &'static str, more: &str) -> Way {
    let lab = crate::lab(2, &Underlay::default());
    let keys = [PrivateKey::generate(), PrivateKey::generate()];
    let containers = [container(), container()];
    for (here, there) in [(0, 1), (1, 0)] {
        let (host, pid) = (&lab.hosts[here], containers[here].pid());
        let (key, peer) = (keys[here].reveal_base64(), keys[there].public_key().to_base64());
        let endpoint = lab.hosts[there].v4();
        let script = format!(
            "set -e
            ip link add wg0 mtu 1420 type wireguard
            echo {key} | wg set wg0 private-key /dev/stdin listen-port 51820 \
                peer {peer} endpoint {endpoint}:51820 allowed-ips 10.50.{there}.0/24
            ip link set wg0 up
            ip route add 10.50.{there}.0/24 dev wg0
            ip link add br0 mtu 1420 type bridge
            ip addr add 10.50.{here}.1/24 dev br0
            ip link set br0 up
            ip link add v0 mtu 1420 type veth peer name eth0 mtu 1420 netns {pid}
            ip link set v0 master br0 up
            echo 1 >/proc/sys/net/ipv4/ip_forward
            nsenter -t {pid} -n ip addr add 10.50.{here}.2/24 dev eth0
            nsenter -t {pid} -n ip link set eth0 up
            nsenter -t {pid} -n ip route add default via 10.50.{here}.1
            {more}"
        );
        host.namespace.run(&["sh", "-c", &script]);
    }
    let [from, to] = containers;
    let address = Ipv4Addr::new(10, 50, 1, 2).into();
    Way { what, from, to, address, rates: Vec::new(), trips: Vec::new(), _lab: lab }
}
