//! Another program changes what the daemon made, and it is put right at once.
//!
//! ```text
//!   container ── web bridge ── host 0 ════ switch ════ host 1 ── web bridge ── container
//!        └─ eth1, routed ───────┘    `ip`, `nft` and `wg` take away, here, what the daemon made
//! ```

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use overlayd_core::protocol::{AttachContainer, DriftStatus, Request, Response};
use overlayd_testkit::{
    lab::{
        self, Host, Lab, LabCluster, Namespace, Underlay,
        probe::{pings, transfer},
    },
    requests::{attach, process},
};

use crate::container;

/// How long healing may take before something is wrong; what it takes is printed.
const PATIENCE: Duration = Duration::from_secs(15);
/// What the one line says that each healing logs.
const LINE: &str = "another program changed the host";

/// One change by another program: what to run, and what shows that it is undone.
struct Act {
    what: String,
    run: Vec<String>,
    sign: Sign,
}

/// A program of the host and what is in its words once all is well.
struct Sign {
    run: Vec<String>,
    says: String,
}

struct World {
    lab: Lab,
    near: Namespace,
    _far: Namespace,
    near_ip: IpAddr,
    global_ip: IpAddr,
    far_ip: IpAddr,
    bridge: String,
    device: String,
    peer: String,
}

fn at_work(cluster: LabCluster) -> World {
    let mut lab = crate::lab(2, &Underlay::default());
    // Where the daemon holds its rules, no other program can take them away in the first place.
    let data_dir = lab.hosts[0].data_dir();
    std::fs::create_dir_all(&data_dir).expect("a data directory");
    std::fs::write(data_dir.join("overlayd.toml"), "rules = \"common\"\n").expect("a settings file");
    let nodes = cluster.join(&mut lab.hosts, &["web"], Host::v4);
    let (near, far) = (container(), container());
    let mut client = lab.hosts[0].client();
    let both = AttachContainer { join_global: true, ..attach(process(near.pid()), "web") };
    let reply = client.ask(Request::AttachContainer(both));
    let Response::Attached(attached) = reply else { panic!("{reply:?}") };
    let far_ip = lab.hosts[1].client().attach(far.pid(), "web");
    assert!(pings(&near, far_ip), "all is well before anybody interferes");
    let bridge = client.status().services[0].name.clone();
    let said = near.run(&["ip", "-oneline", "address", "show", "dev", "eth1", "scope", "global"]);
    let global = said.split_whitespace().nth(3).and_then(|net| net.split('/').next()).expect("an address");
    let (device, peer) = (nodes[0].device.clone(), nodes[1].public_key.clone());
    let global_ip = global.parse().expect("an address");
    World { lab, near, _far: far, near_ip: attached.ip, global_ip, far_ip, bridge, device, peer }
}

impl World {
    fn host(&self) -> &Host {
        &self.lab.hosts[0]
    }

    fn acts(&self) -> Vec<Act> {
        let (bridge, device) = (self.bridge.as_str(), self.device.as_str());
        let pid = self.near.pid();
        let (leg, routed) = (format!("veth-{pid}-s"), format!("veth-{pid}-g"));
        let (leg, routed) = (leg.as_str(), routed.as_str());
        let family = if self.near_ip.is_ipv4() { "-4" } else { "-6" };
        let table = self.table();
        let (on_bridge, on_device) = (self.address_on(bridge), self.address_on(device));
        let is_leg = format!("master {bridge}");
        let show = |link: &str, says: &str| Sign::new(&["ip", "-oneline", "link", "show", "dev", link], says);
        let has = |link: &str, net: &str| Sign::new(&["ip", "-oneline", "address", "show", "dev", link], net);
        let routes = |says: String| Sign::new(&["ip", family, "-oneline", "route", "show"], &says);
        let list = ["nft", "list", "chain", "inet", &table, &self.chain()];
        let rules = || Sign::new(&list, &self.host().run(&list));
        let set_of_bridges = || Sign::new(&["nft", "list", "table", "inet", &table], bridge);
        let cluster = self.host().client().status().overlay_cidr.expect("a range");
        let act = |what: &str, run: &[&str], sign: Sign| Act::new(what, run, sign);
        vec![
            act("the bridge is deleted", &["ip", "link", "delete", bridge], show(leg, &is_leg)),
            act("the bridge is put down", &["ip", "link", "set", bridge, "down"], show(bridge, ",UP")),
            act(
                "the bridge loses its address",
                &["ip", "address", "del", &on_bridge, "dev", bridge],
                has(bridge, &on_bridge),
            ),
            act("a veth is deleted", &["ip", "link", "delete", leg], show(leg, &is_leg)),
            act("a veth is put down", &["ip", "link", "set", leg, "down"], show(leg, ",UP")),
            act("a veth is unplugged", &["ip", "link", "set", leg, "nomaster"], show(leg, &is_leg)),
            act(
                "a container's route is deleted",
                &["ip", family, "route", "del", &self.global_ip.to_string(), "dev", routed],
                routes(format!("{} dev {routed}", self.global_ip)),
            ),
            act(
                "the overlay's route is deleted",
                &["ip", family, "route", "del", &cluster, "dev", device],
                routes(format!("{cluster} dev {device}")),
            ),
            act(
                "the device loses its address",
                &["ip", "address", "del", &on_device, "dev", device],
                has(device, &on_device),
            ),
            act("the device is put down", &["ip", "link", "set", device, "down"], show(device, ",UP")),
            act("the device is deleted", &["ip", "link", "delete", device], has(device, &on_device)),
            act(
                "a peer is removed",
                &["wg", "set", device, "peer", &self.peer, "remove"],
                Sign::new(&["wg", "show", device, "peers"], &self.peer),
            ),
            act("a chain is emptied", &["nft", "flush", "chain", "inet", &table, &self.chain()], rules()),
            act("the table is deleted", &["nft", "delete", "table", "inet", &table], set_of_bridges()),
            act("the ruleset is flushed", &["nft", "flush", "ruleset"], set_of_bridges()),
        ]
    }

    fn table(&self) -> String {
        let said = self.host().run(&["nft", "list", "tables", "inet"]);
        said.split_whitespace().find(|word| word.starts_with("overlayd_")).expect("a table of the daemon").to_owned()
    }

    /// The chain that has what is dropped on its way.
    fn chain(&self) -> String {
        let said = self.host().run(&["nft", "list", "table", "inet", &self.table()]);
        let before = said.split("drop").next().expect("something is dropped");
        let line = before.lines().rev().find(|line| line.trim_start().starts_with("chain ")).expect("a chain");
        line.split_whitespace().nth(1).expect("a name").to_owned()
    }

    fn address_on(&self, link: &str) -> String {
        let said = self.host().run(&["ip", "-oneline", "address", "show", "dev", link, "scope", "global"]);
        said.split_whitespace().nth(3).expect("an address").to_owned()
    }

    /// Does it, and returns how long it took until it was undone.
    fn suffer(&self, act: &Act) -> Duration {
        let host = self.host();
        let run: Vec<&str> = act.run.iter().map(String::as_str).collect();
        host.run(&run);
        let start = Instant::now();
        let watched: Vec<&str> = act.sign.run.iter().map(String::as_str).collect();
        loop {
            let said = host.namespace.try_run(&watched).unwrap_or_default();
            if said.contains(&act.sign.says) {
                return start.elapsed();
            }
            assert!(start.elapsed() < PATIENCE, "{} is not put right: {watched:?} says {said}", act.what);
        }
    }

    fn healed(&self) -> u64 {
        self.host().client().status().drift.unwrap_or_default().healed
    }
}

impl Act {
    /// Whether anything tells the daemon of it: the kernel's WireGuard keeps to itself what happens to its peers.
    fn is_told(&self) -> bool {
        self.run[0] != "wg" || std::env::var("OVERLAYD_WIREGUARD").as_deref() != Ok("kernel")
    }

    fn new(what: &str, run: &[&str], sign: Sign) -> Self {
        Self { what: what.to_owned(), run: run.iter().map(|&word| word.to_owned()).collect(), sign }
    }
}

impl Sign {
    fn new(run: &[&str], says: &str) -> Self {
        Self { run: run.iter().map(|&word| word.to_owned()).collect(), says: says.to_owned() }
    }
}

#[test]
fn what_somebody_takes_away_is_back_at_once() {
    if !lab::available() {
        return;
    }
    for cluster in [LabCluster::V4, LabCluster::V6] {
        let world = at_work(cluster);
        let mut took = Vec::new();
        for act in world.acts() {
            let before = world.healed();
            took.push(world.suffer(&act));
            println!("{cluster:?}: {}: put right after {} ms", act.what, took[took.len() - 1].as_millis());
            if !act.is_told() {
                continue;
            }
            let counted = world.host().client().status_until(|status| status.drift.unwrap_or_default().healed > before);
            assert!(counted.drift.unwrap_or_default().healed > before, "{} was not counted", act.what);
            assert!(pings(&world.near, world.far_ip), "after {}", act.what);
        }
        took.sort_unstable();
        let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
        println!("{cluster:?}: {} acts put right, median {median:?}, worst {worst:?}", took.len());
        let lines = || world.host().log().matches(LINE).count() as u64;
        // What follows from the last act may still be under way.
        let start = Instant::now();
        while lines() != world.healed() {
            assert!(start.elapsed() < PATIENCE, "{} lines for {} healings", lines(), world.healed());
        }
        let (least, most) = (took.len() as u64 - 1, 2 * took.len() as u64);
        assert!((least..=most).contains(&lines()), "{} lines for {} acts", lines(), took.len());
        transfer(&world.near, &world._far, world.far_ip, 100_000).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn what_the_daemon_does_itself_is_no_drift() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(2, &Underlay::default());
    LabCluster::V4.join(&mut lab.hosts, &["web", "db"], Host::v4);
    let host = &lab.hosts[0];
    let mut client = host.client();
    for _ in 0..3 {
        let containers: Vec<Namespace> = (0..8).map(|_| container()).collect();
        for container in &containers {
            client.attach(container.pid(), "web");
        }
        for container in &containers {
            client.detach(container.pid());
        }
    }
    client.ok(Request::TeardownServiceOverlay { service: "db".into() });
    // Links and rules of other programs are not the daemon's affair.
    host.run(&["ip", "link", "add", "theirs", "type", "bridge"]);
    host.run(&["ip", "link", "set", "theirs", "up"]);
    host.run(&["ip", "link", "delete", "theirs"]);
    host.run(&["nft", "add", "table", "inet", "theirs"]);
    host.run(&["nft", "delete", "table", "inet", "theirs"]);
    // The last word has been heard once something that comes after it has been put right.
    let device = client.status().interface.expect("a device");
    host.run(&["ip", "link", "set", &device, "down"]);
    let status = client.status_until(|status| status.drift.is_some());
    assert_eq!(status.drift, Some(DriftStatus { healed: 1, ended: 0 }), "{}", lines(host));
}

#[test]
fn a_container_that_dies_is_detached_and_its_address_rests() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    let mut client = host.start();
    LabCluster::V4.raise(&mut client, 0, &["web"], host.v4());
    let (stays, dies) = (container(), container());
    client.attach(stays.pid(), "web");
    let ip = client.attach(dies.pid(), "web");
    let start = Instant::now();
    drop(dies);
    let status = client.status_until(|status| status.services[0].attachments == 1);
    println!("a container that died was detached after {:?}", start.elapsed());
    assert_eq!(status.services[0].attachments, 1, "{}", host.log());
    let ended = client.status_until(|status| status.drift.is_some()).drift.unwrap_or_default().ended;
    assert_eq!(ended, 1);
    let next = container();
    assert_ne!(client.attach(next.pid(), "web"), ip, "the address of the dead one rests");
    assert!(pings(&next, host.client().status().node_ip.expect("a node address")));
}

fn lines(host: &Host) -> String {
    host.log().lines().filter(|line| line.contains(LINE)).collect::<Vec<_>>().join("\n")
}
