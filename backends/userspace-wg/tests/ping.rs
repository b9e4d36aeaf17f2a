//! Two devices of ours carry packets between two namespaces.

mod support;

use support::Pair;

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
