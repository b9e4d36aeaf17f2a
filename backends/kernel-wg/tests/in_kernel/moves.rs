//! Ranges come, go and move while packets flow.

use std::io::Write;

use overlayd_core::{contract::PeerChange, keys::PrivateKey};

use crate::hosts::{Host, Kind, eventually, pair, peer};

#[test]
fn ranges_come_and_go_on_a_live_peer_without_losing_a_packet() {
    let (a, b) = pair(Kind::Kernel, Kind::Kernel);
    a.must_ping("10.77.0.2");
    let flow = a.flow_to("10.77.0.2");
    for round in 0..200_u8 {
        let extra = format!("10.78.{round}.0/24");
        a.set(peer(b.public(), "", &["10.77.0.2/32", "fd77::2/128", &extra]));
        a.set(peer(b.public(), "", &["10.77.0.2/32", "fd77::2/128"]));
    }
    let (sent, lost) = flow.lost();
    assert_eq!(lost, 0, "of {sent} packets");
    assert_eq!(a.peer(&b.public()).allowed_ips.len(), 2);
    assert_eq!(a.status().peers.len(), 1, "no helper stays behind");
}

#[test]
fn a_range_in_use_moves_between_peers_without_losing_a_packet() {
    let (a, b) = pair(Kind::Kernel, Kind::Kernel);
    // The same remote under a second key: packets to the range have a way by either peer. Answers would come by
    // the one peer while the other holds the range, so what counts is what arrives over there.
    let second = PrivateKey::generate();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(second.reveal_base64().as_bytes()).unwrap();
    let (path, key) = (file.path().display(), a.public().to_base64());
    b.must("ip link add second type wireguard");
    b.must(&format!(
        "wg set second private-key {path} listen-port 51821 peer {key} allowed-ips 10.77.0.1/32 endpoint 192.0.2.1:51820"
    ));
    b.must("ip link set second up");
    b.must("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.second.rp_filter=0");
    b.must("sysctl -qw net.ipv4.icmp_echo_ignore_all=1");
    let second = second.public_key();
    for (key, endpoint) in [(second, "192.0.2.2:51821"), (b.public(), "192.0.2.2:51820")] {
        a.set(peer(key, endpoint, &["10.77.0.2/32"]));
        let before = echo_requests(&b);
        eventually("a session", || {
            a.run("ping -c 1 -W 1 10.77.0.2");
            echo_requests(&b) > before
        });
    }
    let before = echo_requests(&b);
    let flow = a.requests_to("10.77.0.2");
    eventually("the first request", || echo_requests(&b) > before);
    for _ in 0..200 {
        a.set(peer(second, "", &["10.77.0.2/32"]));
        a.change(vec![
            PeerChange::Set(peer(second, "", &[])),
            PeerChange::Set(peer(b.public(), "", &["10.77.0.2/32", "fd77::2/128"])),
        ])
        .unwrap();
    }
    let sent = flow.sent();
    eventually("all that was sent arrived", || echo_requests(&b) - before == u64::from(sent));
}

#[test]
fn a_peer_that_is_removed_hands_its_ranges_over_without_a_gap() {
    let (a, _b) = pair(Kind::Kernel, Kind::Kernel);
    a.must_ping("10.77.0.2");
    let flow = a.flow_to("10.77.0.2");
    for _ in 0..50 {
        let others: Vec<_> = (0..4).map(|_| PrivateKey::generate().public_key()).collect();
        a.change(others.iter().map(|key| PeerChange::Set(peer(*key, "", &["10.79.0.0/16"]))).collect()).unwrap();
        a.change(others.iter().map(|key| PeerChange::Remove(*key)).collect()).unwrap();
    }
    let (sent, lost) = flow.lost();
    assert_eq!(lost, 0, "of {sent} packets");
    assert_eq!(a.status().peers.len(), 1);
}

/// How many echo requests the host has received.
fn echo_requests(host: &Host) -> u64 {
    let text = host.must("cat /proc/net/snmp");
    let mut lines = text.lines().filter(|line| line.starts_with("Icmp: ")).map(|line| line.split(' '));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    names.zip(values).find(|(name, _)| *name == "InEchos").unwrap().1.parse().unwrap()
}
