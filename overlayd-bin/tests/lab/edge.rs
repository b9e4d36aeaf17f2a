//! Machines outside of the cluster, let in for a while: a stock `wireguard-go`, set up from the token as its user would.
//!
//! ```text
//!   w ── web bridge ─┐
//!   d2, d3, d4 ── db bridge ─ host 0 (overlayd) ════ switch ════ host 1, which runs wireguard-go and no daemon
//! ```

use std::{net::IpAddr, time::Instant};

use ipnet::IpNet;
use overlayd_core::protocol::{EdgeConfig, EdgePeerStatus, PeerSpec, Request, Response, SecretText};
use overlayd_testkit::lab::{
    self, Host, Lab, LabClient, LabCluster, Namespace, Underlay,
    probe::{ping, pings, transfer},
};

use crate::{PATIENCE, Program, container, until};

/// The node, its containers by name with their addresses, and the machine that is to be an edge.
struct Yard {
    lab: Lab,
    containers: Vec<(&'static str, Namespace, IpAddr)>,
    node: IpAddr,
}

impl Yard {
    fn new(cluster: LabCluster) -> Self {
        let mut lab = crate::lab(2, &Underlay::default());
        let host = &mut lab.hosts[0];
        let mut client = host.start();
        cluster.raise(&mut client, 0, &["web", "db"], host.v4());
        let attach = |(name, service): (&'static str, &str)| {
            let container = container();
            let ip = client.attach(container.pid(), service);
            (name, container, ip)
        };
        let containers = [("w", "web"), ("d2", "db"), ("d3", "db"), ("d4", "db")].map(attach).into();
        let node = client.status().node_ip.expect("a node has an address");
        Self { lab, containers, node }
    }

    fn host(&mut self) -> &mut Host {
        &mut self.lab.hosts[0]
    }

    fn client(&self) -> LabClient {
        self.lab.hosts[0].client()
    }

    fn ip(&self, name: &str) -> IpAddr {
        self.containers.iter().find(|(known, ..)| *known == name).expect("a container of the yard").2
    }

    /// A grant for `web` by its name and for the first four addresses of `db`, its gateway, d2 and d3 among them.
    fn mint(&self, ttl_secs: u64) -> EdgeConfig {
        let d2 = self.ip("d2");
        let first = IpNet::new(d2, if d2.is_ipv4() { 30 } else { 126 }).expect("a range").trunc();
        let request = Request::MintEdgePeer {
            name: "laptop".into(),
            ttl_secs,
            allow: vec!["web".into(), first.to_string()],
            node_endpoint: format!("{}:51820", self.lab.hosts[0].v4()),
        };
        let Response::EdgeConfig(config) = self.client().ask(request) else { panic!("no edge") };
        let token = config.to_token().expect("a token");
        EdgeConfig::from_token(token.reveal()).expect("the token reads the same")
    }

    fn edges(&self) -> Vec<EdgePeerStatus> {
        let Response::EdgePeers { peers } = self.client().ask(Request::ListEdgePeers) else { panic!("no list") };
        peers
    }

    /// The edge reaches what it was granted and nothing else, for all that it routes to the node itself.
    fn keeps_to_its_grants(&self, edge: &Namespace) {
        for name in ["w", "d2", "d3"] {
            assert!(reaches(edge, self.ip(name)), "the edge does not reach {name}");
        }
        assert!(reaches(edge, self.node), "the edge does not reach the node");
        let (_, web, ip) = &self.containers[0];
        transfer(edge, web, *ip, 200_000).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(ping(edge, self.ip("d4"), 56), None, "the edge reaches what it was not granted");
    }
}

/// A machine's own WireGuard, ended when this is dropped; its interface goes with it.
pub(crate) struct WireGuard(#[expect(dead_code, reason = "it is held")] Program);

impl WireGuard {
    /// Sets up the interface `edge` as wg-quick(8) does, but sends everything of `routes` to the node.
    pub(crate) fn start(at: &Namespace, key: &SecretText, address: IpAddr, node: &PeerSpec, routes: &str) -> Self {
        let wireguard = Self(Program::start(at, &["wireguard-go", "-f", "edge"]));
        until("wireguard-go answers", || at.try_run(&["wg", "show", "edge"]).is_ok());
        let settings = format!(
            "[Interface]\nPrivateKey = {}\n[Peer]\nPublicKey = {}\nEndpoint = {}\nAllowedIPs = {routes}\n\
             PersistentKeepalive = {}\n",
            key.reveal(),
            node.public_key,
            node.endpoint,
            node.persistent_keepalive_secs,
        );
        at.feed(&["wg", "setconf", "edge", "/dev/stdin"], &settings);
        at.run(&["ip", "address", "add", &IpNet::from(address).to_string(), "dev", "edge"]);
        at.run(&["ip", "link", "set", "edge", "mtu", "1420", "up"]);
        for route in routes.split(',') {
            at.run(&["ip", "route", "add", route, "dev", "edge"]);
        }
        wireguard
    }
}

/// The interface that the token describes.
fn start(at: &Namespace, config: &EdgeConfig, routes: &str) -> WireGuard {
    let [node] = config.peers.as_slice() else { panic!("an edge has one peer") };
    WireGuard::start(at, &config.private_key, config.overlay_ip, node, routes)
}

/// Whether an answer comes at last: a handshake may have to be begun anew, which WireGuard does after 15 seconds of silence.
pub(crate) fn reaches(edge: &Namespace, to: IpAddr) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if pings(edge, to) {
            return true;
        }
    }
    false
}

fn an_edge_keeps_to_its_grants(cluster: LabCluster) {
    if !lab::available() {
        return;
    }
    let mut yard = Yard::new(cluster);
    let config = yard.mint(3600);
    let machine = yard.lab.hosts.pop().expect("a second host");
    let edge = &machine.namespace;
    {
        let _honest = start(edge, &config, &config.peers[0].allowed_ips);
        yard.keeps_to_its_grants(edge);
    }
    until("the honest interface is gone", || edge.try_run(&["ip", "link", "show", "edge"]).is_err());
    let _greedy = start(edge, &config, cluster.cidr());
    yard.keeps_to_its_grants(edge);
    until("the handshake is told", || yard.edges()[0].last_handshake_unix_secs.is_some_and(|at| at > 1_700_000_000));
    yard.host().kill();
    // As after a start of the host: the fence has to stand before the edge is let in again.
    yard.host().run(&["nft", "flush", "ruleset"]);
    yard.host().start();
    assert_eq!(yard.edges().len(), 1, "an edge survives the daemon");
    yard.keeps_to_its_grants(edge);
    yard.client().ok(Request::RevokeEdgePeer { name: "laptop".into() });
    assert_eq!(ping(edge, yard.ip("w"), 56), None, "a revoked edge reaches a container");
}

#[test]
fn an_ipv4_edge_reaches_what_it_was_granted_and_nothing_else() {
    an_edge_keeps_to_its_grants(LabCluster::V4);
}

#[test]
fn an_ipv6_edge_reaches_what_it_was_granted_and_nothing_else() {
    an_edge_keeps_to_its_grants(LabCluster::V6);
}

#[test]
fn an_edge_is_let_in_until_its_time_is_over() {
    if !lab::available() {
        return;
    }
    let mut yard = Yard::new(LabCluster::V4);
    let before = yard.host().facts();
    let config = yard.mint(20);
    let machine = yard.lab.hosts.pop().expect("a second host");
    let edge = &machine.namespace;
    let _wireguard = start(edge, &config, &config.peers[0].allowed_ips);
    assert!(reaches(edge, yard.ip("w")));
    assert_eq!(yard.edges()[0].expires_at_unix, config.expires_at_unix);
    until("the edge is forgotten", || yard.edges().is_empty());
    assert_eq!(ping(edge, yard.ip("w"), 56), None, "an expired edge reaches a container");
    yard.host().comes_back_to(&before);
    assert!(!yard.host().run(&["wg", "show"]).contains(&config.public_key), "an expired edge is still a peer");
}
