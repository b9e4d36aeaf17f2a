//! Two hosts and who lives there.

use std::{fs, net::IpAddr};

use overlayd_core::protocol::{AttachContainer, Request, Response};
use overlayd_testkit::{
    lab::{
        Host, Lab, LabClient, LabCluster, Namespace, OUTSIDE, OUTSIDE_V6, Underlay,
        probe::{ReachPath, WAYS, is_cut_off, reaches},
    },
    requests::{attach, process},
};

use crate::container;

/// What the configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    /// Nothing.
    Open,
    Strict,
}

/// A lab with the containers of the drawing.
pub(super) struct Town {
    pub(super) lab: Lab,
    cluster: LabCluster,
    people: Vec<Person>,
    /// Addresses of hosts, and others that are no container's.
    places: Vec<(&'static str, IpAddr)>,
}

struct Person {
    name: &'static str,
    namespace: Namespace,
    ip: IpAddr,
}

/// Name, host, service, isolation network.
const PEOPLE: [(&str, usize, &str, Option<&str>); 9] = [
    ("m1", 0, "web", Some("job")),
    ("m2", 0, "web", Some("job")),
    ("g", 0, "web", Some("job")),
    ("x", 0, "web", Some("other")),
    ("n", 0, "web", None),
    ("m3", 0, "db", Some("job")),
    ("d", 0, "db", None),
    ("rm", 1, "web", Some("job")),
    ("rn", 1, "db", None),
];

impl Town {
    pub(super) fn new(cluster: LabCluster, isolation: Isolation) -> Self {
        let mut lab = crate::lab(2, &Underlay::default());
        if isolation == Isolation::Strict {
            lab.hosts.iter().for_each(strict);
        }
        cluster.join(&mut lab.hosts, &["web", "db"], Host::v4);
        let mut town = Self { lab, cluster, people: Vec::new(), places: Vec::new() };
        for (name, host, service, network) in PEOPLE {
            let namespace = container();
            let mut client = town.lab.hosts[host].client();
            let ip = join(&mut client, &namespace, service, network, name == "g");
            town.people.push(Person { name, namespace, ip });
        }
        town.places = town.survey();
        town
    }

    fn survey(&self) -> Vec<(&'static str, IpAddr)> {
        let [near, far] = [0, 1].map(|host| self.lab.hosts[host].client().status());
        let web = near.services.iter().find(|service| service.service == "web").expect("web is set up");
        let block: ipnet::IpNet = web.subnet.as_deref().expect("a subnet").parse().expect("a block");
        let v4 = self.cluster == LabCluster::V4;
        // An address of the overlay that no node has; the outside pretends to.
        let stranger: IpAddr = if v4 { "10.77.255.9" } else { "fd77:0:0:ffff::9" }.parse().expect("an address");
        let bits = if v4 { 32 } else { 128 };
        self.lab.core.run(&["ip", "address", "add", &format!("{stranger}/{bits}"), "dev", "lo"]);
        let outside = if v4 { OUTSIDE.into() } else { OUTSIDE_V6.into() };
        let underlay = if v4 { self.lab.hosts[1].v4() } else { self.lab.hosts[1].v6() };
        vec![
            ("node 0", near.node_ip.expect("a node address")),
            ("node 1", far.node_ip.expect("a node address")),
            ("gateway", block.hosts().find(|host| *host != block.network()).expect("a gateway")),
            ("g by eth1", second_address(self.who("g").0)),
            ("outside", outside),
            ("host 1", underlay),
            ("stranger", stranger),
        ]
    }

    /// The network namespace and address of one place.
    pub(super) fn who(&self, name: &str) -> (&Namespace, IpAddr) {
        if let Some(person) = self.people.iter().find(|person| person.name == name) {
            return (&person.namespace, person.ip);
        }
        let (_, at) = self.places.iter().find(|(place, _)| *place == name).expect("a place of this town");
        let namespace = match name {
            "node 0" | "gateway" => &self.lab.hosts[0].namespace,
            "node 1" | "host 1" => &self.lab.hosts[1].namespace,
            "g by eth1" => self.who("g").0,
            _ => &self.lab.core,
        };
        (namespace, *at)
    }

    /// The ways in which one of these does not reach one of those.
    pub(super) fn not_reached(&self, from: &[&str], to: &[&str]) -> Vec<String> {
        self.wrong(from, to, |sender, receiver, at, way| !reaches(sender, receiver, at, way), "does not reach")
    }

    /// The ways in which something of one of these arrives at one of those.
    pub(super) fn not_cut_off(&self, from: &[&str], to: &[&str]) -> Vec<String> {
        self.wrong(from, to, |sender, receiver, at, way| !is_cut_off(sender, receiver, at, way), "reaches")
    }

    fn wrong(
        &self,
        from: &[&str],
        to: &[&str],
        is_wrong: fn(&Namespace, &Namespace, IpAddr, ReachPath) -> bool,
        verb: &str,
    ) -> Vec<String> {
        let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
        let ways = pairs.flat_map(|pair| WAYS.map(|way| (pair, way)));
        let wrong = ways.filter(|((from, to), way)| {
            let ((sender, _), (receiver, at)) = (self.who(from), self.who(to));
            is_wrong(sender, receiver, at, *way)
        });
        wrong.map(|((from, to), way)| format!("{from} {verb} {to} by {way:?}")).collect()
    }
}

fn strict(host: &Host) {
    fs::create_dir_all(host.data_dir()).expect("a data directory");
    fs::write(host.data_dir().join("overlayd.toml"), "isolation = \"strict\"\n").expect("a configuration");
}

/// The request that attaches the container as a member.
pub(super) fn membership(container: &Namespace, service: &str, network: Option<&str>) -> AttachContainer {
    AttachContainer { isolation_network: network.map(str::to_owned), ..attach(process(container.pid()), service) }
}

/// Attaches the container; its address.
pub(crate) fn join(
    client: &mut LabClient,
    container: &Namespace,
    service: &str,
    network: Option<&str>,
    join_global: bool,
) -> IpAddr {
    let request = AttachContainer { join_global, ..membership(container, service, network) };
    match client.ask(Request::AttachContainer(request)) {
        Response::Attached(attached) => attached.ip,
        other => panic!("attach was answered {other:?}"),
    }
}

/// The container's address on the whole overlay.
fn second_address(container: &Namespace) -> IpAddr {
    let said = container.run(&["ip", "-oneline", "address", "show", "dev", "eth1", "scope", "global"]);
    let address = said.split_whitespace().nth(3).expect("an address").split('/').next().expect("an address");
    address.parse().expect("an address")
}
