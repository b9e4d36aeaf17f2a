//! The daemon next to what else is on a host: its networks, its uplink, its network managers.
//!
//! ```text
//!   host 0 ─ eth0 192.0.2.1/24, 2001:db8:0:2::1/64 ════ switch, which has the default gateways
//! ```

use overlayd_core::protocol::{NatCandidateWire, Request, Response, SetupGlobalOverlay};
use overlayd_testkit::lab::{self, Underlay};

fn setup(cluster: &str, slice: &str) -> Request {
    Request::SetupGlobalOverlay(SetupGlobalOverlay {
        deployment: "lab".into(),
        instance_id: "n0".into(),
        cluster_cidr: cluster.into(),
        slice_cidr: Some(slice.into()),
        wg_port: 51820,
        ..SetupGlobalOverlay::default()
    })
}

#[test]
fn a_range_that_would_cut_the_host_off_is_refused_by_interface_and_route() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    let before = host.facts();
    let mut client = host.start();
    for (cluster, slice, route) in
        [("192.0.0.0/16", "192.0.9.0/26", "192.0.2.0/24"), ("2001:db8::/32", "2001:db8:9::/64", "2001:db8:0:2::/64")]
    {
        let Response::Err { message, .. } = client.call(setup(cluster, slice)).unwrap() else {
            panic!("{cluster} was accepted")
        };
        assert!(message.contains(cluster) && message.contains("eth0") && message.contains(route), "{message}");
    }
    host.comes_back_to(&before);
    let reached = host.client().ask(setup("10.77.0.0/16", "10.77.4.0/26"));
    assert_eq!(reached, Response::BridgeName { name: "zl-lab-n0-g".into() });
}

#[test]
fn a_network_behind_a_router_that_the_overlay_takes_over_is_told_of() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    host.run(&["ip", "route", "add", "10.77.128.0/17", "via", "192.0.2.254"]);
    host.start().ask(setup("10.77.0.0/16", "10.77.4.0/26"));
    let log = host.log();
    let told = log.lines().find(|line| line.contains("the overlay overlaps with this host")).expect("a warning");
    assert!(told.contains("eth0") && told.contains("10.77.128.0/17"), "{told}");
}

#[test]
fn network_managers_that_run_keep_off_until_the_overlay_is_torn_down() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    host.run(&["mkdir", "-p", "/run/systemd/netif", "/run/NetworkManager"]);
    let before = host.facts();
    let mut client = host.start();
    for _ in 0..2 {
        client.ask(setup("10.77.0.0/16", "10.77.4.0/26"));
        let networkd = host.run(&["cat", "/run/systemd/network/10-zlayer-unmanaged.network"]);
        assert!(networkd.contains("zl-*") && networkd.contains("Unmanaged=yes"), "{networkd}");
        let keyfile = host.run(&["cat", "/run/NetworkManager/conf.d/10-zlayer-unmanaged.conf"]);
        assert!(keyfile.contains("unmanaged-devices"), "{keyfile}");
    }
    client.ok(Request::TeardownGlobalOverlay);
    host.comes_back_to(&before);
}

#[test]
fn the_addresses_of_the_uplink_are_candidates() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    let mut client = host.start();
    client.ask(setup("10.77.0.0/16", "10.77.4.0/26"));
    for _ in 0..3 {
        client.ok(Request::NatTick);
    }
    let told = host.log().matches("asking STUN servers, hole punching and relays are not part of this build").count();
    assert_eq!(told, 1, "what is not there is said once");
    let Response::NatStatus(status) = client.ask(Request::NatStatus) else { panic!("no status") };
    let candidate = |address: String| NatCandidateWire { candidate_type: "host".into(), address, priority: 100 };
    let expected = [format!("{}:51820", host.v4()), format!("[{}]:51820", host.v6())].map(candidate);
    assert_eq!(status.candidates, expected);
    assert!(status.peers.is_empty() && status.last_refresh > 0);
}
