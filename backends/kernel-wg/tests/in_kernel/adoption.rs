//! A daemon that ends and comes back disturbs no packet.

use crate::hosts::{Kind, pair, peer};

#[test]
fn a_new_process_adopts_device_and_peers_without_losing_a_packet() {
    let (a, b) = pair(Kind::Kernel, Kind::Kernel);
    a.must_ping("10.77.0.2");
    let handshake = a.peer(&b.public()).last_handshake;
    let flow = a.flow_to("10.77.0.2");
    for _ in 0..20 {
        for host in [&a, &b] {
            host.restart();
        }
        a.ensure(&a.plan(&["10.77.0.1/24", "fd77::1/64"])).unwrap();
        b.ensure(&b.plan(&["10.77.0.2/24", "fd77::2/64"])).unwrap();
        a.set(peer(b.public(), "", &["10.77.0.2/32", "fd77::2/128"]));
        b.set(peer(a.public(), "192.0.2.1:51820", &["10.77.0.1/32", "fd77::1/128"]));
    }
    let (sent, lost) = flow.lost();
    assert!(sent > 20, "only {sent} packets");
    assert_eq!(lost, 0, "of {sent} packets");
    assert_eq!(a.peer(&b.public()).last_handshake, handshake, "the session is the same");
}

#[test]
fn a_device_stays_and_carries_packets_while_no_process_runs() {
    let (a, b) = pair(Kind::Kernel, Kind::Kernel);
    a.must_ping("10.77.0.2");
    let (left, right) = (a.rtnl.netns().try_clone().unwrap(), b.rtnl.netns().try_clone().unwrap());
    drop((a, b));
    let ping = left.run(|| crate::hosts::command("ping -c 2 -W 2 10.77.0.2").output()).unwrap().unwrap();
    assert!(ping.status.success(), "{}", String::from_utf8_lossy(&ping.stdout));
    drop(right);
}

#[test]
fn changed_settings_leave_the_peers_and_what_they_roamed_to() {
    let (a, b) = pair(Kind::Kernel, Kind::Kernel);
    a.must_ping("10.77.0.2");
    b.must("ip addr add 192.0.2.22/24 dev cable");
    b.must("ip addr del 192.0.2.2/24 dev cable");
    b.must("ip addr add 192.0.2.22/24 dev cable");
    b.must_ping("10.77.0.1");
    let roamed = a.peer(&b.public()).endpoint;
    assert_eq!(roamed, Some("192.0.2.22:51820".parse().unwrap()));
    a.restart();
    a.ensure(&a.plan(&["10.77.0.1/24", "10.77.1.1/24"])).unwrap();
    a.set(peer(b.public(), "", &["10.77.0.2/32", "10.77.1.2/32"]));
    assert_eq!(a.peer(&b.public()).endpoint, roamed);
    a.must_ping("10.77.0.2");
}
