//! How fast containers reach each other through what overlayd sets up, compared with the kernel's WireGuard, a bridge and
//! veth pairs set up by hand, on the same underlay and in turns. `--ignored --nocapture` shows it.

use std::{
    net::{IpAddr, Ipv4Addr},
    process::Stdio,
    thread::sleep,
    time::Duration,
};

use overlayd_core::keys::PrivateKey;
use overlayd_testkit::lab::{Cluster, Host, Lab, Namespace, Underlay, probe::pings};

use crate::container;

const ROUNDS: usize = 5;

/// Where a measurement starts and ends.
struct Ends {
    from: Namespace,
    to: Namespace,
    address: IpAddr,
}

#[test]
#[ignore = "a measurement, for a machine with WireGuard in the kernel or a guest: see docs/performance.md"]
fn containers_are_as_fast_as_by_hand() {
    let mut lab = crate::lab(2, &Underlay::default());
    Cluster::V4.join(&mut lab.hosts, &["web"], Host::v4);
    let (from, to) = (container(), container());
    lab.hosts[0].client().attach(from.pid(), "web");
    let address = lab.hosts[1].client().attach(to.pid(), "web");
    let ours = Ends { from, to, address };
    let other = crate::lab(2, &Underlay::default());
    let by_hand = by_hand(&other);
    let (mut with_us, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(by_hand.megabits());
        with_us.push(ours.megabits());
    }
    println!("by hand:  {without:.0?} Mbit/s");
    println!("overlayd: {with_us:.0?} Mbit/s");
    println!("ratio of the medians: {:.3}", median(with_us) / median(without));
}

impl Ends {
    fn megabits(&self) -> f64 {
        assert!(pings(&self.from, self.address), "{} is not reached", self.address);
        let address = self.address.to_string();
        let mut server = self.to.command(&["iperf3", "-s", "-1", "-B", &address]);
        let mut server = server.stdout(Stdio::null()).spawn().expect("iperf3 starts");
        // It refuses until the server listens.
        let measure = |_| {
            sleep(Duration::from_millis(200));
            self.from.try_run(&["iperf3", "-c", &address, "-t", "4", "-J"]).map_err(|error| eprintln!("{error}")).ok()
        };
        let text = (0..20).find_map(measure).expect("iperf3 measures");
        server.kill().expect("the server ends");
        server.wait().expect("the server has ended");
        let rates = text.rsplit("\"sum_received\"").next().expect("a sum");
        let rate = rates.split("\"bits_per_second\":").nth(1).and_then(|rest| rest.split([',', '\n']).next());
        rate.and_then(|rate| rate.trim().parse::<f64>().ok()).expect("a rate") / 1e6
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// The same as overlayd makes, with `ip` and `wg`: nothing filters, nothing is marked.
fn by_hand(lab: &Lab) -> Ends {
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
            nsenter -t {pid} -n ip route add default via 10.50.{here}.1"
        );
        host.namespace.run(&["sh", "-c", &script]);
    }
    let [from, to] = containers;
    Ends { from, to, address: Ipv4Addr::new(10, 50, 1, 2).into() }
}
