//! What crosses the tunnel, and what the host shows of the device.

use overlayd_core::{
    contract::{DeviceMtu, DevicePlan, PeerPlan},
    keys::PresharedKey,
};

use crate::hosts::{DEVICE, Host, Kind, cable, pair, peer};

#[test]
fn two_hosts_reach_each_other_in_both_families() {
    let (a, b) = pair(Kind::Kernel, Kind::Kernel);
    a.must_ping("10.77.0.2");
    a.must_ping("fd77::2");
    b.must_ping("10.77.0.1");
    let seen = a.peer(&b.public());
    assert!(seen.last_handshake.is_some());
    assert!(seen.rx_bytes > 0 && seen.tx_bytes > 0);
}

#[test]
fn the_mtu_follows_the_underlay() {
    let (a, _b) = cable(Kind::Kernel, Kind::Kernel);
    let plan = a.plan(&["10.77.0.1/24"]);
    assert_eq!(a.ensure(&plan).unwrap().mtu, 1420);
    a.must("ip link set cable mtu 1400");
    assert_eq!(a.ensure(&plan).unwrap().mtu, 1320);
    assert_eq!(a.status().mtu, 1320);
    let plan = DevicePlan { mtu: DeviceMtu::Bytes(60), ..plan };
    assert_eq!(a.ensure(&plan).unwrap_err().code(), "invalid_plan");
}

#[test]
fn a_preshared_key_is_used_kept_and_taken_away() {
    let (a, b) = pair(Kind::Kernel, Kind::Kernel);
    let psk = Some(PresharedKey::from_bytes([7; 32]));
    let with = |plan: PeerPlan| PeerPlan { preshared_key: psk.clone(), ..plan };
    a.set(with(peer(b.public(), "", &["10.77.0.2/32"])));
    b.set(with(peer(a.public(), "", &["10.77.0.1/32"])));
    a.must_ping("10.77.0.2");
    a.ensure(&a.plan(&["10.77.0.1/24"])).unwrap();
    let show = format!("wg show {DEVICE} preshared-keys");
    assert!(!a.must(&show).contains("(none)"));
    a.set(peer(b.public(), "", &["10.77.0.2/32"]));
    assert!(a.must(&show).contains("(none)"));
}

#[test]
fn a_port_in_use_is_a_conflict_when_a_running_device_changes_to_it() {
    let (a, _b) = pair(Kind::Kernel, Kind::Kernel);
    let _taken = a.inside(|| std::net::UdpSocket::bind("0.0.0.0:51999").unwrap());
    let plan = DevicePlan { listen_port: 51999, ..a.plan(&["10.77.0.1/24", "fd77::1/64"]) };
    assert_eq!(a.ensure(&plan).unwrap_err().code(), "conflict");
    assert_eq!(a.status().listen_port, 51820);
    a.must_ping("10.77.0.2");
}

/// Rules and routes of the host tell encrypted packets from others by their mark.
#[test]
fn encrypted_packets_carry_the_mark_that_was_set() {
    for kind in [Kind::Kernel, Kind::Userspace] {
        let (a, b) = pair(kind, Kind::Kernel);
        a.must("nft add table ip test");
        a.must("nft add chain ip test out { type filter hook output priority 0 ; }");
        let counted = |a: &Host| !a.must("nft list chain ip test out").contains("counter packets 0 ");
        // Each port once: sockets of this process may live on for a moment in a child that another test starts.
        let reached_from = |port: u16| {
            a.must("nft flush chain ip test out");
            a.must(&format!("nft add rule ip test out udp sport {port} meta mark 0x77 counter"));
            a.ensure(&DevicePlan { listen_port: port, ..a.plan(&["10.77.0.1/24", "fd77::1/64"]) }).unwrap();
            a.set(peer(b.public(), "192.0.2.2:51820", &["10.77.0.2/32", "fd77::2/128"]));
            a.must_ping("10.77.0.2");
        };
        reached_from(51831);
        assert!(!counted(&a), "{kind:?}: no mark was asked for");
        a.restart_with(Some(0x77));
        reached_from(51832);
        assert!(counted(&a), "{kind:?}: no packet is marked");
        reached_from(51833);
        assert!(counted(&a), "{kind:?}: packets from another port are not marked");
        a.remove();
        reached_from(51834);
        assert!(counted(&a), "{kind:?}: packets of a new device are not marked");
    }
}

#[test]
fn settings_of_the_host_stay_as_they_were() {
    let (a, _b) = cable(Kind::Kernel, Kind::Kernel);
    let plan = a.plan(&["10.77.0.1/24"]);
    let redirects = "cat /proc/sys/net/ipv4/conf/all/send_redirects";
    for value in ["1", "0"] {
        a.must(&format!("sysctl -qw net.ipv4.conf.all.send_redirects={value}"));
        a.ensure(&plan).unwrap();
        assert_eq!(a.must(redirects).trim(), value);
        a.must(&format!("ip link del {DEVICE}"));
    }
}
