//! A node with the kernel's WireGuard and one with ours in user space, in one mesh.

use crate::hosts::{Host, Kind, eventually, pair};

#[test]
fn a_kernel_node_and_a_userspace_node_reach_each_other() {
    let (a, b) = pair(Kind::Kernel, Kind::Userspace);
    a.must_ping("10.77.0.2");
    a.must_ping("fd77::2");
    b.must_ping("10.77.0.1");
    b.must_ping("fd77::1");
}

#[test]
fn either_follows_the_other_to_a_new_address() {
    let (a, b) = pair(Kind::Kernel, Kind::Userspace);
    a.must_ping("10.77.0.2");
    move_to(&b, 2, 22);
    b.must_ping("10.77.0.1");
    assert_eq!(a.peer(&b.public()).endpoint, Some("192.0.2.22:51820".parse().unwrap()));
    a.must_ping("10.77.0.2");
    move_to(&a, 1, 11);
    a.must_ping("10.77.0.2");
    assert_eq!(b.peer(&a.public()).endpoint, Some("192.0.2.11:51820".parse().unwrap()));
    b.must_ping("10.77.0.1");
}

/// Takes two minutes: WireGuard makes new keys after 120 seconds.
#[test]
fn new_keys_are_made_while_packets_flow_and_none_is_lost() {
    let (a, b) = pair(Kind::Kernel, Kind::Userspace);
    a.must_ping("10.77.0.2");
    let first = a.peer(&b.public()).last_handshake.unwrap();
    let flow = a.flow_to("10.77.0.2");
    let start = std::time::Instant::now();
    while a.peer(&b.public()).last_handshake == Some(first) {
        assert!(start.elapsed().as_secs() < 180, "no new handshake");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    eventually("both know of it", || b.peer(&a.public()).last_handshake > Some(first));
    a.must_ping("10.77.0.2");
    let (sent, lost) = flow.lost();
    assert_eq!(lost, 0, "of {sent} packets");
}

fn move_to(host: &Host, from: u8, to: u8) {
    host.must(&format!("ip addr add 192.0.2.{to}/24 dev cable"));
    host.must(&format!("ip addr del 192.0.2.{from}/24 dev cable"));
    // Deleting the first address of a prefix deletes the others with it.
    host.must(&format!("ip addr replace 192.0.2.{to}/24 dev cable"));
}
