//! Two devices of this backend carry packets between two namespaces.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{collections::BTreeSet, net::UdpSocket};

use support::{PATIENCE, Pair};

#[test]
fn two_devices_ping_each_other_over_ipv4() {
    let pair = Pair::over("192.0.2.");
    pair.left.must_ping("10.77.0.2");
    pair.left.must_ping("fd77::2");
    pair.right.must_ping("10.77.0.1");
}

#[test]
fn two_devices_ping_each_other_over_ipv6() {
    let pair = Pair::over("fd00:db8::");
    pair.left.must_ping("10.77.0.2");
    pair.left.must_ping("fd77::2");
    pair.right.must_ping("fd77::1");
}

/// Single packets are passed on by one thread, bursts by two.
#[test]
fn nothing_is_lost_where_single_packets_and_bursts_take_turns() {
    let pair = Pair::over("192.0.2.");
    pair.left.must_ping("10.77.0.2");
    let bind = |host: &support::Host, address: &str| host.netns.run(|| UdpSocket::bind((address, 0)).unwrap()).unwrap();
    let (left, right) = (bind(&pair.left, "10.77.0.1"), bind(&pair.right, "10.77.0.2"));
    left.connect(right.local_addr().unwrap()).unwrap();
    right.connect(left.local_addr().unwrap()).unwrap();
    let bursts = (0..6).flat_map(|round| std::iter::repeat_n(1, 24).chain([2 + 10 * round]));
    for (turn, burst) in bursts.enumerate() {
        let (from, to) = if turn % 50 < 25 { (&left, &right) } else { (&right, &left) };
        let sent =
            BTreeSet::from_iter((0..burst).map(|number: u32| [turn as u32, number].map(u32::to_be_bytes).concat()));
        for packet in &sent {
            from.send(packet).unwrap();
        }
        to.set_read_timeout(Some(PATIENCE)).unwrap();
        let arrived = sent.iter().map(|_| {
            let mut buffer = [0; 100];
            let len = overlayd_testkit::uninterrupted(|| to.recv(&mut buffer)).unwrap();
            buffer[..len].to_vec()
        });
        assert_eq!(BTreeSet::from_iter(arrived), sent, "turn {turn}");
    }
}
