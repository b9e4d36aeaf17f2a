use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{Host, Namespace};

/// An address beyond the underlay that stands for the outside world.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
/// The same in IPv6.
pub const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x99);

/// How long an address may take to become usable. Far more than it needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What joins the hosts.
#[derive(Debug, Clone)]
pub struct Underlay {
    /// How they are joined.
    pub shape: LinkShape,
    /// Largest packet in bytes on every link.
    pub mtu: u16,
    /// Of a thousand packets toward a host, how many are lost, 999 at most. (nftables does it, because netem is not in every kernel;
    /// for the same reason there is no delay.)
    pub loss_per_mille: u16,
}

/// How hosts are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkShape {
    /// One segment: host `n` has 192.0.2.(n+1) and 2001:db8:0:2::(n+1).
    Switch,
    /// One segment per host with a router between: host `n` has 198.51.100.(4n+2)/30 and 2001:db8:0:(100+n)::2.
    Router,
    /// Two hosts on the two ends of one cable, without anything between: 192.0.2.1 and 192.0.2.2, and the same in IPv6 as
    /// with `Switch`. For measurements: frames of many segments go over it whole, as a network card takes them.
    Cable,
    /// As `Switch`, but these hosts sit behind a NAT of their own, as 10.0.0.2 behind 192.0.2.(n+1).
    Nat(Vec<usize>),
}

impl Default for Underlay {
    fn default() -> Self {
        Self { shape: LinkShape::Switch, mtu: 1500, loss_per_mille: 0 }
    }
}

/// Hosts on an underlay. Dropping it ends and removes everything.
#[derive(Debug)]
pub struct Lab {
    /// The hosts, whose daemons do not run yet.
    pub hosts: Vec<Host>,
    /// The switch or router.
    pub core: Namespace,
    /// The NATs, in the order of the hosts behind them.
    pub nats: Vec<Namespace>,
    /// Data directories, removed with the lab.
    directory: TempDir,
}

impl Lab {
    /// Builds so many hosts, each to run this `overlayd` binary.
    pub fn new(hosts: usize, underlay: &Underlay, overlayd: &Path) -> Self {
        let directory = TempDir::with_prefix("ovlab-").expect("a directory for the lab");
        let core = core(underlay);
        let mut lab = Self { hosts: Vec::new(), core, nats: Vec::new(), directory };
        for number in 0..hosts {
            lab.add_host(number, underlay, overlayd);
        }
        lab
    }

    /// Where the lab keeps files.
    pub fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    fn add_host(&mut self, number: usize, underlay: &Underlay, overlayd: &Path) {
        let namespace = Namespace::host();
        let port = format!("port{number}");
        let (v4, v6) = match &underlay.shape {
            LinkShape::Router => routed(&self.core, &namespace, &port, number, underlay),
            LinkShape::Nat(behind) if behind.contains(&number) => {
                let nat = Namespace::host();
                switched(&self.core, &nat, &port, number, underlay);
                let addresses = masqueraded(&nat, &namespace, underlay);
                self.nats.push(nat);
                addresses
            }
            LinkShape::Cable => self.plugged(&namespace, number, underlay),
            LinkShape::Switch | LinkShape::Nat(_) => switched(&self.core, &namespace, &port, number, underlay),
        };
        lose(&self.core, &port, underlay.loss_per_mille);
        let directory = self.directory.path().join(format!("host{number}"));
        self.hosts.push(Host::new(namespace, &directory, overlayd, (v4, v6)));
    }

    /// Gives a host its address, and lays the cable to the one before it.
    fn plugged(&self, host: &Namespace, number: usize, underlay: &Underlay) -> (IpAddr, IpAddr) {
        let addresses = (format!("192.0.2.{}", number + 1), format!("2001:db8:0:2::{:x}", number + 1));
        if let Some(first) = self.hosts.first() {
            assert_eq!(self.hosts.len(), 1, "a cable has two ends");
            cable((&first.namespace, "eth0"), (host, "eth0"), underlay.mtu);
            for end in [&first.namespace, host] {
                end.run(&["ip", "link", "set", "eth0", "gso_max_segs", "65535"]);
            }
            addressed(&first.namespace, "eth0", "192.0.2.1/24", "2001:db8:0:2::1/64");
            addressed(host, "eth0", "192.0.2.2/24", "2001:db8:0:2::2/64");
        }
        (addresses.0.parse().expect("an address"), addresses.1.parse().expect("an address"))
    }
}

fn core(underlay: &Underlay) -> Namespace {
    let core = Namespace::host();
    core.run(&["ip", "address", "add", &format!("{OUTSIDE}/32"), "dev", "lo"]);
    core.run(&["ip", "address", "add", &format!("{OUTSIDE_V6}/128"), "dev", "lo"]);
    forward(&core);
    if !matches!(underlay.shape, LinkShape::Router | LinkShape::Cable) {
        core.run(&["ip", "link", "add", "switch", "mtu", &underlay.mtu.to_string(), "type", "bridge"]);
        core.run(&["ip", "link", "set", "switch", "up"]);
        core.run(&["ip", "address", "add", "192.0.2.254/24", "dev", "switch"]);
        core.run(&["ip", "address", "add", "2001:db8:0:2::fe/64", "dev", "switch", "nodad"]);
    }
    core
}

fn forward(router: &Namespace) {
    router.set("ipv4/ip_forward", "1");
    router.set("ipv6/conf/all/forwarding", "1");
}

/// A cable between two namespaces, its ends up, without addresses.
fn cable(a: (&Namespace, &str), b: (&Namespace, &str), mtu: u16) {
    let (mtu, b_pid) = (mtu.to_string(), b.0.pid().to_string());
    let ends = ["ip", "link", "add", "name", a.1, "mtu", &mtu, "type", "veth"];
    let peer = ["peer", "name", b.1, "mtu", &mtu, "netns", &b_pid];
    let create: Vec<&str> = ends.into_iter().chain(peer).collect();
    a.0.run(&create);
    for (namespace, name) in [a, b] {
        // Addresses of the underlay are there from the start, and do not change from tentative to valid under a test.
        namespace.set(&format!("ipv6/conf/{name}/accept_dad"), "0");
        // What goes onto a cable is cut to its MTU; by itself a pair hands frames of 64 KiB over.
        namespace.run(&["ip", "link", "set", name, "gso_max_segs", "1", "up"]);
    }
}

fn addressed(namespace: &Namespace, link: &str, v4: &str, v6: &str) {
    namespace.run(&["ip", "address", "add", v4, "dev", link]);
    namespace.run(&["ip", "address", "add", v6, "dev", link, "nodad"]);
    // This one and the link's own are usable a moment later.
    let local = ["ip", "-6", "-oneline", "route", "show", "table", "local", "type", "local", "dev", link];
    let start = Instant::now();
    while namespace.run(&local).lines().count() < 2 {
        assert!(start.elapsed() < PATIENCE, "the addresses of {link} are not usable within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn default_routes(namespace: &Namespace, v4: &str, v6: &str) {
    namespace.run(&["ip", "route", "add", "default", "via", v4]);
    namespace.run(&["ip", "-6", "route", "add", "default", "via", v6]);
}

fn switched(core: &Namespace, host: &Namespace, port: &str, number: usize, underlay: &Underlay) -> (IpAddr, IpAddr) {
    cable((core, port), (host, "eth0"), underlay.mtu);
    core.run(&["ip", "link", "set", port, "master", "switch"]);
    let (v4, v6) = (format!("192.0.2.{}", number + 1), format!("2001:db8:0:2::{:x}", number + 1));
    addressed(host, "eth0", &format!("{v4}/24"), &format!("{v6}/64"));
    default_routes(host, "192.0.2.254", "2001:db8:0:2::fe");
    (v4.parse().expect("an address"), v6.parse().expect("an address"))
}

fn routed(core: &Namespace, host: &Namespace, port: &str, number: usize, underlay: &Underlay) -> (IpAddr, IpAddr) {
    cable((core, port), (host, "eth0"), underlay.mtu);
    let (near, far) = (format!("198.51.100.{}", 4 * number + 1), format!("198.51.100.{}", 4 * number + 2));
    let prefix = format!("2001:db8:0:{:x}", 0x100 + number);
    addressed(core, port, &format!("{near}/30"), &format!("{prefix}::1/64"));
    addressed(host, "eth0", &format!("{far}/30"), &format!("{prefix}::2/64"));
    default_routes(host, &near, &format!("{prefix}::1"));
    (far.parse().expect("an address"), format!("{prefix}::2").parse().expect("an address"))
}

fn masqueraded(nat: &Namespace, host: &Namespace, underlay: &Underlay) -> (IpAddr, IpAddr) {
    cable((nat, "inside"), (host, "eth0"), underlay.mtu);
    forward(nat);
    addressed(nat, "inside", "10.0.0.1/24", "fd00:a::1/64");
    addressed(host, "eth0", "10.0.0.2/24", "fd00:a::2/64");
    default_routes(host, "10.0.0.1", "fd00:a::1");
    let chain = "type nat hook postrouting priority 100\n oifname eth0 masquerade";
    nft(nat, &format!("table inet nat {{\n chain out {{\n {chain}\n }}\n}}\n"));
    ("10.0.0.2".parse().expect("an address"), "fd00:a::2".parse().expect("an address"))
}

fn lose(core: &Namespace, port: &str, per_mille: u16) {
    if per_mille > 0 {
        let hook = format!("type filter hook egress device \"{port}\" priority 0");
        let rule = format!("numgen random mod 1000 < {per_mille} drop");
        nft(core, &format!("table netdev {port} {{\n chain out {{\n {hook}\n {rule}\n }}\n}}\n"));
    }
}

fn nft(namespace: &Namespace, ruleset: &str) {
    namespace.feed(&["nft", "-f", "-"], ruleset);
}
