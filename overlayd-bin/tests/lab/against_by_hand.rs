//! How fast containers reach each other through what overlayd sets up, compared with the kernel's WireGuard, a bridge and
//! veth pairs set up by hand, on the same underlay and in turns. `--ignored --nocapture` shows it.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use overlayd_core::keys::PrivateKey;
use overlayd_testkit::lab::{Cluster, Host, Lab, Namespace, Underlay, probe::pings};

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
    _lab: Lab,
}

#[test]
#[ignore = "a measurement, for a machine with WireGuard in the kernel or a guest: see docs/performance.md"]
fn containers_are_as_fast_as_by_hand() {
    let rounds = std::env::var("OVERLAYD_BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let mut ways = [
        by_hand("by hand", ""),
        by_overlayd("overlayd", |_| {}),
        by_hand("by hand, connections tracked", TRACKED),
        by_overlayd("overlayd, without its daemon and rules", |host| {
            host.kill();
            host.run(&["nft", "flush", "ruleset"]);
        }),
    ];
    // The order changes from round to round, so that what else the machine does meets all alike.
    for round in 0..rounds {
        for turn in 0..ways.len() {
            let number = (turn * 2 + round) % ways.len();
            let rate = ways[number].megabits();
            ways[number].rates.push(rate);
        }
    }
    let base = ways[0].rates.clone();
    for way in &ways {
        let ratios = way.rates.iter().zip(&base).map(|(rate, base)| rate / base).collect();
        let (least, ratio, most) = quartiles(ratios);
        let (_, rate, _) = quartiles(way.rates.clone());
        println!("{:45} {rate:6.0} Mbit/s, {ratio:.3} of by hand (half between {least:.3} and {most:.3})", way.what);
        println!("    {:.0?}", way.rates);
    }
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
}

fn quartiles(mut numbers: Vec<f64>) -> (f64, f64, f64) {
    numbers.sort_by(f64::total_cmp);
    let at = |quarter: usize| numbers[(numbers.len() - 1) * quarter / 4];
    (at(1), at(2), at(3))
}

fn by_overlayd(what: &'static str, then: fn(&mut Host)) -> Way {
    let mut lab = crate::lab(2, &Underlay::default());
    Cluster::V4.join(&mut lab.hosts, &["web"], Host::v4);
    let (from, to) = (container(), container());
    lab.hosts[0].client().attach(from.pid(), "web");
    let address = lab.hosts[1].client().attach(to.pid(), "web");
    lab.hosts.iter_mut().for_each(then);
    Way { what, from, to, address, rates: Vec::new(), _lab: lab }
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
    Way { what, from, to, address, rates: Vec::new(), _lab: lab }
}
