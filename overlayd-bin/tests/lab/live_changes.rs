//! Peers and AllowedIPs change while traffic flows, and no packet is lost to it.
//!
//! ```text
//!   container ── host 0 ════ switch ════ host 1 ── container
//!        └─────────── four conversations ───────────┘      a thousand changes on host 0
//! ```

use std::net::{IpAddr, SocketAddr};

use overlayd_core::{
    keys::PrivateKey,
    protocol::{PeerScope, PeerSpec, Request},
};
use overlayd_testkit::lab::{
    self, Host, Lab, LabCluster, Namespace, Node, Underlay,
    probe::{UdpEcho, UdpFlow, pings},
};

use crate::container;

/// Two hosts with a container each, and conversations between the two.
struct Conversation {
    lab: Lab,
    nodes: Vec<Node>,
    flows: Vec<UdpFlow>,
    _echo: UdpEcho,
    _ends: [Namespace; 2],
}

impl Conversation {
    fn start() -> Self {
        let mut lab = crate::lab(2, &Underlay::default());
        let nodes = LabCluster::V4.join(&mut lab.hosts, &["web"], Host::v4);
        let ends = [container(), container()];
        let ips: Vec<IpAddr> =
            lab.hosts.iter().zip(&ends).map(|(host, end)| host.client().attach(end.pid(), "web")).collect();
        assert!(pings(&ends[0], ips[1]), "the session is there before anything is counted");
        let echo = UdpEcho::start(&ends[1], ips[1]);
        let to = SocketAddr::new(ips[1], echo.port);
        let flows = (0..4).map(|_| UdpFlow::start(&ends[0], to)).collect();
        Self { lab, nodes, flows, _echo: echo, _ends: ends }
    }

    fn ends_without_loss(self) {
        let mut answered = 0;
        for flow in self.flows {
            let talk = flow.end();
            assert!(talk.lost.is_empty(), "datagrams were lost: {talk:?}");
            answered += talk.answered;
        }
        assert!(answered > 100, "only {answered} datagrams were exchanged in that time");
        println!("{answered} datagrams were exchanged in that time");
    }
}

#[test]
fn a_thousand_changes_of_a_live_peer_lose_no_packet() {
    if !lab::available() {
        return;
    }
    let conversation = Conversation::start();
    let mut client = conversation.lab.hosts[0].client();
    let peer = &conversation.nodes[1];
    for change in 0..1000_u32 {
        let (pubkey, cidr) = (peer.public_key.clone(), format!("10.77.{}.0/26", 200 + change % 50));
        let scope = PeerScope::Global;
        client.ok(Request::AddAllowedIp { pubkey: pubkey.clone(), cidr: cidr.clone(), scope: scope.clone() });
        if change % 10 == 0 {
            client.ok(peer.as_peer());
        }
        client.ok(Request::RemoveAllowedIp { pubkey, cidr, scope });
    }
    let status = client.status();
    let ranges: Vec<String> = peer.ranges.iter().map(ToString::to_string).collect();
    assert_eq!(sorted(&status.peers[0].allowed_ips), sorted(&ranges.join(",")));
    conversation.ends_without_loss();
}

#[test]
fn two_hundred_peers_come_and_go_beside_a_live_one() {
    if !lab::available() {
        return;
    }
    let conversation = Conversation::start();
    let mut client = conversation.lab.hosts[0].client();
    for _ in 0..3 {
        for number in 0..200 {
            client.ok(stranger(number));
        }
        assert_eq!(client.status().peer_count, 201);
        for number in 0..200 {
            client.ok(Request::RemovePeer { pubkey: key(number), scope: PeerScope::Global });
        }
        assert_eq!(client.status().peer_count, 1);
    }
    conversation.ends_without_loss();
}

fn sorted(ranges: &str) -> Vec<&str> {
    let mut ranges: Vec<&str> = ranges.split(',').collect();
    ranges.sort_unstable();
    ranges
}

fn key(number: u8) -> String {
    PrivateKey::from_bytes([number.wrapping_add(7); 32]).public_key().to_base64()
}

/// A peer that never speaks, at an address of the underlay that no host has.
fn stranger(number: u8) -> Request {
    Request::AddPeer {
        peer: PeerSpec {
            public_key: key(number),
            endpoint: format!("192.0.2.200:{}", 20_000 + u16::from(number)),
            allowed_ips: format!("10.77.250.{number}/32"),
            persistent_keepalive_secs: 0,
            candidates: Vec::new(),
        },
        scope: PeerScope::Global,
    }
}
