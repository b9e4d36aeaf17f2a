//! Devices of this backend under the conditions of real hosts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::UdpSocket;

use boringtun::{
    noise::{Tunn, TunnResult},
    x25519,
};
use overlayd_core::{
    contract::{DeviceMtu, PeerChange},
    keys::PrivateKey,
    names::InstanceId,
};
use overlayd_netlink::{Route, address, link, route};
use overlayd_userspace_wg::{AtExit, Config};
use support::{DEVICE, Node, Pair, endpoint, eventually, peer, psk, two_hosts};

/// Echo requests at this pace while something changes; none may be lost.
const STREAM: [&str; 6] = ["-i", "0.005", "-c", "600", "-W", "2"];

fn assert_nothing_lost(ping: support::RunningDevice) {
    let text = ping.output();
    assert!(text.contains("600 packets transmitted, 600 received"), "{text}");
}

#[test]
fn a_range_added_and_removed_a_thousand_times_costs_a_live_peer_no_packet() {
    let pair = Pair::new();
    pair.left.must_ping("10.77.0.2");
    let ping = pair.left.start("ping", &[&STREAM[..], &["10.77.0.2"]].concat());
    let key = pair.b.public();
    for _ in 0..1000 {
        pair.a.set(peer(key, "", &["10.77.0.2/32", "fd77::2/128", "10.88.0.0/16"]));
        pair.a.set(peer(key, "", &["10.77.0.2/32", "fd77::2/128"]));
    }
    assert_nothing_lost(ping);
    assert_eq!(pair.a.peer(&key).allowed_ips.len(), 2);
}

#[test]
fn two_hundred_peers_come_and_go_beside_a_live_one_without_a_lost_packet() {
    let pair = Pair::new();
    pair.left.must_ping("10.77.0.2");
    let ping = pair.left.start("ping", &[&STREAM[..], &["10.77.0.2"]].concat());
    let keys: Vec<_> = (0..200).map(|_| PrivateKey::generate().public_key()).collect();
    for round in 0..5 {
        for (number, key) in keys.iter().enumerate() {
            let range = format!("10.99.{number}.{round}/32");
            pair.a.set(peer(*key, "192.0.2.99:9", &[&range]));
        }
        pair.a.change(keys.iter().map(|key| PeerChange::Remove(*key)).collect()).unwrap();
    }
    assert_nothing_lost(ping);
    assert_eq!(pair.a.status().peers.len(), 1);
}

#[test]
fn a_packet_with_a_source_that_is_not_its_senders_is_dropped_and_counted() {
    let pair = Pair::new();
    pair.left.must_ping("10.77.0.2");
    let device = pair.left.rtnl.link(DEVICE).unwrap().unwrap().index;
    pair.left.rtnl.run(address::ensure(device, "10.77.0.77/32".parse().unwrap())).unwrap();
    let ping = pair.left.run("ping", &["-c", "2", "-i", "0.2", "-W", "1", "-I", "10.77.0.77", "10.77.0.2"]);
    assert!(!ping.status.success());
    assert_eq!(pair.b.dropped("bad_source"), 2);
}

#[test]
fn a_packet_to_nobody_is_dropped_and_counted() {
    let pair = Pair::new();
    pair.left.run("ping", &["-c", "1", "-W", "1", "10.77.0.200"]);
    assert_eq!(pair.a.dropped("no_route"), 1);
}

#[test]
fn a_changed_psk_takes_effect_on_both_sides_without_a_new_device() {
    let pair = Pair::new();
    pair.left.must_ping("10.77.0.2");
    let with = |key, at, range: &str, seed| {
        let mut plan = peer(key, at, &[range]);
        plan.preshared_key = psk(seed);
        plan
    };
    pair.a.change(vec![PeerChange::Remove(pair.b.public())]).unwrap();
    pair.a.set(with(pair.b.public(), "192.0.2.2:51820", "10.77.0.2/32", 1));
    assert!(!pair.left.pings("10.77.0.2"), "only one side has the new key");
    pair.b.set(with(pair.a.public(), "", "10.77.0.1/32", 1));
    pair.left.must_ping("10.77.0.2");
}

#[test]
fn a_node_that_moves_to_another_port_and_address_is_followed() {
    let pair = Pair::new();
    pair.left.must_ping("10.77.0.2");
    let mut plan = pair.a.plan(&["10.77.0.1/24", "fd77::1/64"]);
    plan.listen_port = 51999;
    pair.a.ensure(&plan).unwrap();
    pair.left.must_ping("10.77.0.2");
    assert_eq!(pair.b.peer(&pair.a.public()).endpoint, Some(endpoint("192.0.2.1:51999")));
    pair.left.add_address("192.0.2.7/24");
    pair.left.delete_address("192.0.2.1/24");
    pair.left.add_address("192.0.2.7/24");
    pair.left.must_ping("10.77.0.2");
    assert_eq!(pair.b.peer(&pair.a.public()).endpoint, Some(endpoint("192.0.2.7:51999")));
}

#[test]
fn a_node_under_load_asks_for_a_cookie_and_the_peer_still_connects() {
    let (left, right) = two_hosts();
    let a = Node::new(&left);
    let b = Node::with(&right, |config| config.limits.unproved_per_source = 0);
    a.ensure(&a.plan(&["10.77.0.1/24"])).unwrap();
    b.ensure(&b.plan(&["10.77.0.2/24"])).unwrap();
    a.set(peer(b.public(), "192.0.2.2:51820", &["10.77.0.2/32"]));
    b.set(peer(a.public(), "", &["10.77.0.1/32"]));
    left.must_ping("10.77.0.2");
    assert!(b.dropped("cookie_sent") >= 1);
}

/// An initiation to `node` by no peer of it, good but for that.
fn strangers_initiation(node: &Node) -> Vec<u8> {
    let private = x25519::StaticSecret::from(*PrivateKey::generate().as_bytes());
    let mut tunnel = Tunn::new(private, x25519::PublicKey::from(*node.public().as_bytes()), None, None, 1, None);
    let mut out = [0; 256];
    match tunnel.format_handshake_initiation(&mut out, true) {
        TunnResult::WriteToNetwork(initiation) => initiation.to_vec(),
        _ => panic!("no initiation"),
    }
}

#[test]
fn a_flood_of_handshakes_disturbs_no_session_and_a_peer_elsewhere_can_still_connect() {
    let pair = Pair::new();
    pair.left.must_ping("10.77.0.2");
    pair.left.add_address("192.0.2.66/24");
    let ping = pair.left.start("ping", &[&STREAM[..], &["10.77.0.2"]].concat());
    let initiation = strangers_initiation(&pair.b);
    pair.left
        .netns
        .run(|| {
            let socket = UdpSocket::bind("192.0.2.66:0").unwrap();
            for _ in 0..200 {
                for _ in 0..100 {
                    socket.send_to(&initiation, "192.0.2.2:51820").unwrap();
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        })
        .unwrap();
    assert_nothing_lost(ping);
    assert!(pair.b.dropped("cookie_sent") > 0 && pair.b.dropped("rate_limited") > 10_000);
    assert!(pair.b.dropped("unknown_peer") < 1000, "the costly part is done for few of them");
    let known = pair.a.public();
    pair.b.change(vec![PeerChange::Remove(known)]).unwrap();
    pair.b.set(peer(known, "192.0.2.1:51820", &["10.77.0.1/32"]));
    pair.right.must_ping("10.77.0.1");
}

#[test]
fn the_largest_datagram_and_nonsense_do_the_device_no_harm() {
    let pair = Pair::new();
    pair.left.must_ping("10.77.0.2");
    let before = pair.b.dropped("not_wireguard");
    pair.left
        .netns
        .run(|| {
            let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
            for len in [0, 1, 31, 148, 2000, 9000, 65_507] {
                socket.send_to(&vec![0xff; len], "192.0.2.2:51820").unwrap();
            }
        })
        .unwrap();
    eventually("all are counted", || pair.b.dropped("not_wireguard") == before + 7);
    assert!(pair.left.pings("10.77.0.2"));
}

#[test]
fn a_narrow_underlay_is_taken_into_account_and_large_packets_pass() {
    let (left, right) = two_hosts();
    let (a, b) = (Node::new(&left), Node::new(&right));
    for host in [&left, &right] {
        host.rtnl.run(link::change(host.cable).mtu(1400).request()).unwrap();
    }
    assert_eq!(a.ensure(&a.plan(&["10.77.0.1/24"])).unwrap().mtu, 1320);
    b.ensure(&b.plan(&["10.77.0.2/24"])).unwrap();
    a.set(peer(b.public(), "192.0.2.2:51820", &["10.77.0.2/32"]));
    b.set(peer(a.public(), "192.0.2.1:51820", &["10.77.0.1/32"]));
    left.must_ping("10.77.0.2");
    left.must("ping", &["-c", "2", "-i", "0.2", "-W", "2", "-M", "do", "-s", "1292", "10.77.0.2"]);
    // A device that is wider than the underlay still carries, in fragments.
    let mut plan = a.plan(&["10.77.0.1/24"]);
    plan.mtu = DeviceMtu::Bytes(1420);
    a.ensure(&plan).unwrap();
    left.must("ping", &["-c", "2", "-i", "0.2", "-W", "2", "-M", "do", "-s", "1392", "10.77.0.2"]);
}

#[test]
fn a_busy_port_is_a_conflict_that_names_it() {
    let (left, _right) = two_hosts();
    let a = Node::new(&left);
    let taken = left.netns.run(|| UdpSocket::bind("[::]:51820").unwrap()).unwrap();
    let refused = a.ensure(&a.plan(&["10.77.0.1/24"])).unwrap_err();
    assert_eq!(refused.code(), "conflict");
    assert!(refused.to_string().contains("51820"), "{refused}");
    assert!(left.rtnl.link(DEVICE).unwrap().is_none());
    drop(taken);
    a.ensure(&a.plan(&["10.77.0.1/24"])).unwrap();
}

#[test]
fn a_persistent_interface_is_adopted_by_the_next_process_which_greets_its_peers() {
    let (left, right) = two_hosts();
    let persist = |config: &mut Config| {
        config.instance = InstanceId::of_data_dir("/uwg-restart".as_ref());
        config.at_exit = AtExit::Persist;
    };
    let (a, b) = (Node::with(&left, persist), Node::new(&right));
    let plan = a.plan(&["10.77.0.1/24"]);
    let peer_of_a = peer(b.public(), "192.0.2.2:51820", &["10.77.0.2/32"]);
    a.ensure(&plan).unwrap();
    b.ensure(&b.plan(&["10.77.0.2/24"])).unwrap();
    a.set(peer_of_a.clone());
    b.set(peer(plan.private_key.public_key(), "192.0.2.1:51820", &["10.77.0.1/32"]));
    left.must_ping("10.77.0.2");
    let index = left.rtnl.link(DEVICE).unwrap().unwrap().index;
    let before = b.peer(&plan.private_key.public_key()).last_handshake;
    drop(a);
    assert_eq!(left.rtnl.link(DEVICE).unwrap().map(|link| link.index), Some(index), "the interface stays");
    let a = Node::with(&left, persist);
    // A program that another test starts holds copies of our descriptors until it is executed.
    eventually("the device is made again", || a.ensure(&plan).is_ok());
    a.set(peer_of_a);
    eventually("a handshake without traffic", || b.peer(&plan.private_key.public_key()).last_handshake > before);
    assert!(right.pings("10.77.0.1"));
    assert_eq!(left.rtnl.link(DEVICE).unwrap().unwrap().index, index);
}

#[test]
fn a_route_of_somebody_else_is_a_conflict_and_stays() {
    let (left, _right) = two_hosts();
    let a = Node::new(&left);
    let theirs = Route { protocol: 4, ..Route::by_link("10.88.0.0/16".parse().unwrap(), left.cable) };
    left.rtnl.run(route::add(&theirs)).unwrap();
    let before = left.must("ip", &["route"]);
    let mut plan = a.plan(&["10.77.0.1/24"]);
    plan.routes = vec!["10.77.0.0/24".parse().unwrap(), "10.88.0.0/16".parse().unwrap()];
    let refused = a.ensure(&plan).unwrap_err();
    assert_eq!(refused.code(), "conflict");
    assert!(refused.to_string().contains("10.88.0.0/16"), "{refused}");
    assert_eq!(left.must("ip", &["route"]), before);
    plan.routes.pop();
    a.ensure(&plan).unwrap();
    left.rtnl.run(route::delete(&theirs)).unwrap();
    plan.routes.push("10.88.0.0/16".parse().unwrap());
    a.ensure(&plan).unwrap();
    assert!(left.must("ip", &["route"]).contains(&format!("10.88.0.0/16 dev {DEVICE} proto 111")));
}

#[test]
fn a_flood_over_ipv4_leaves_room_for_ipv6() {
    let pair = Pair::over("fd00:db8::");
    pair.left.must_ping("10.77.0.2");
    let ping = pair.left.start("ping", &[&STREAM[..], &["10.77.0.2"]].concat());
    pair.left
        .netns
        .run(|| {
            let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
            for _ in 0..100_000 {
                socket.send_to(&[4; 32], "192.0.2.2:51820").unwrap();
            }
        })
        .unwrap();
    assert_nothing_lost(ping);
}

#[test]
fn a_deleted_interface_is_reported_and_made_again_with_its_peers() {
    let pair = Pair::new();
    pair.left.must_ping("10.77.0.2");
    pair.left.rtnl.run(link::delete(DEVICE)).unwrap();
    eventually("the loss is noticed", || pair.a.observe().is_empty());
    let refused = pair.a.change(vec![PeerChange::Remove(PrivateKey::generate().public_key())]);
    assert_eq!(refused.unwrap_err().code(), "host");
    pair.a.ensure(&pair.a.plan(&["10.77.0.1/24", "fd77::1/64"])).unwrap();
    pair.left.must_ping("10.77.0.2");
}

#[test]
fn a_host_without_ipv6_has_a_device_over_ipv4() {
    let (left, right) = two_hosts();
    for host in [&left, &right] {
        overlayd_netlink::sysctl::write(&host.netns, "ipv6/conf/all/disable_ipv6", "1").unwrap();
        overlayd_netlink::sysctl::write(&host.netns, "ipv6/conf/default/disable_ipv6", "1").unwrap();
    }
    let (a, b) = (Node::new(&left), Node::new(&right));
    a.ensure(&a.plan(&["10.77.0.1/24"])).unwrap();
    b.ensure(&b.plan(&["10.77.0.2/24"])).unwrap();
    a.set(peer(b.public(), "192.0.2.2:51820", &["10.77.0.2/32"]));
    b.set(peer(a.public(), "192.0.2.1:51820", &["10.77.0.1/32"]));
    left.must_ping("10.77.0.2");
}

#[test]
fn a_peer_with_a_persistent_keepalive_connects_by_itself() {
    let pair = Pair::new();
    let mut plan = peer(pair.b.public(), "192.0.2.2:51820", &["10.77.0.2/32"]);
    plan.keepalive = std::num::NonZeroU16::new(1);
    pair.a.set(plan);
    eventually("a handshake", || pair.b.peer(&pair.a.public()).last_handshake.is_some());
    let before = pair.b.peer(&pair.a.public()).rx_bytes;
    eventually("keepalives", || pair.b.peer(&pair.a.public()).rx_bytes > before);
}
