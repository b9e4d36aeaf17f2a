//! The requests against the running kernel, each test in a network namespace of its own. They need root.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{net::IpAddr, os::fd::AsFd};

use ipnet::IpNet;
use overlayd_netlink::{
    Netns, OrAbsent, Route, Rtnl,
    address::{self, PrefixRoute},
    link::{self, Ipv4Setting, NewBridge, NewVeth, PortState},
    neighbour, route, sysctl,
};

fn host() -> Rtnl {
    Rtnl::inside(&Netns::create().expect("root is needed")).unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn index(rtnl: &Rtnl, name: &str) -> u32 {
    rtnl.link(name).unwrap().expect(name).index
}

#[test]
fn a_bridge_has_the_address_alias_and_group_it_was_asked_to_have() {
    let host = host();
    let mac = [0x02, 0x6f, 1, 2, 3, 4];
    host.run(NewBridge { name: "br", mac: Some(mac), group: 77 }.request()).unwrap();
    host.run(link::change("br").alias("mark").mtu(1400).no_link_local().request()).unwrap();
    host.run(link::up("br")).unwrap();

    let bridge = host.link("br").unwrap().unwrap();
    assert_eq!((bridge.kind.as_deref(), bridge.mac, bridge.group), (Some("bridge"), Some(mac), 77));
    assert_eq!((bridge.alias.as_deref(), bridge.mtu, bridge.up), (Some("mark"), 1400, true));
    assert_eq!(host.addresses(bridge.index).unwrap(), []);
    assert!(host.run(NewBridge { name: "br", mac: None, group: 0 }.request()).unwrap_err().is_present());
}

#[test]
fn a_veth_pair_is_born_with_its_peer_in_the_other_namespace() {
    let host = host();
    let other = Netns::create().unwrap();
    host.run(NewBridge { name: "br", mac: None, group: 0 }.request()).unwrap();
    let veth = NewVeth {
        mac: Some([2, 0, 0, 0, 0, 1]),
        group: 5,
        master: Some(index(&host, "br")),
        peer_mac: Some([2, 0, 0, 0, 0, 2]),
        peer_netns: Some(other.as_fd()),
        mtu: Some(1380),
        ..NewVeth::pair("veth-1-s", "eth0")
    };
    host.run(veth.request()).unwrap();

    let ours = host.link("veth-1-s").unwrap().unwrap();
    let inside = Rtnl::inside(&other).unwrap();
    let theirs = inside.link("eth0").unwrap().unwrap();
    assert_eq!((ours.master, ours.group, ours.mtu), (Some(index(&host, "br")), 5, 1380));
    assert_eq!((theirs.mtu, theirs.mac), (1380, Some([2, 0, 0, 0, 0, 2])));
    assert_eq!((ours.peer, theirs.peer), (Some(theirs.index), Some(ours.index)));
    assert_eq!(host.link("eth0").unwrap(), None);
    // More of them are taken away again, for which the kernel waits.
    for (rtnl, name) in [(&host, "veth-1-s"), (&inside, "eth0")] {
        #[expect(clippy::disallowed_methods, reason = "a test may ask another program")]
        let shown = || std::process::Command::new("ip").args(["-details", "link", "show", name]).output().unwrap();
        let shown = String::from_utf8(rtnl.netns().run(shown).unwrap().stdout).unwrap();
        assert!(shown.contains("numtxqueues 1 ") && shown.contains("numrxqueues 1 "), "{shown}");
    }
}

#[test]
fn routes_are_listed_by_their_link() {
    let host = host();
    host.run_all([NewVeth::pair("a", "b").request(), link::up("a"), link::up("b")]).unwrap();
    let (a, b) = (index(&host, "a"), index(&host, "b"));
    let route = |net: &str, link| Route::by_link(self::net(net), link);
    let (four, six, other) = (route("10.1.0.0/16", a), route("fd01::/64", a), route("10.2.0.0/16", b));
    host.run_all([&four, &six, &other].map(route::add)).unwrap();
    let found: Vec<IpNet> = host.routes_by(a).unwrap().into_iter().map(|route| route.destination).collect();
    assert!(found.contains(&four.destination) && found.contains(&six.destination), "{found:?}");
    assert!(!found.contains(&other.destination), "{found:?}");
    assert_eq!(host.routes_by(index(&host, "lo")).unwrap(), []);
}

#[test]
fn links_are_listed_by_their_kind() {
    let host = host();
    host.run_all([
        NewBridge { name: "br", mac: None, group: 0 }.request(),
        NewVeth::pair("a", "b").request(),
        NewVeth::pair("c", "d").request(),
    ])
    .unwrap();
    let names = |kind| host.links_of(kind).unwrap().into_iter().map(|link| link.name).collect::<Vec<_>>();
    assert_eq!(names("bridge"), ["br"]);
    assert_eq!(names("veth").len(), 4);
    assert_eq!(names("tun"), [""; 0]);
    assert_eq!(names("no-such-kind"), [""; 0]);
}

#[test]
fn a_group_of_links_goes_in_one_request_and_an_empty_one_is_absent() {
    let host = host();
    for n in 0..20 {
        let (name, peer) = (format!("a{n}"), format!("b{n}"));
        host.run(NewVeth { group: 9, ..NewVeth::pair(&name, &peer) }.request()).unwrap();
    }
    host.run(NewVeth::pair("stays", "too").request()).unwrap();
    host.run(link::delete_group(9)).unwrap();

    let names: Vec<String> = host.links().unwrap().into_iter().map(|l| l.name).collect();
    assert!(names.contains(&"stays".to_owned()) && !names.iter().any(|n| n.starts_with('a')), "{names:?}");
    assert_eq!(host.run(link::delete_group(9)).or_absent().unwrap(), None);
    assert_eq!(host.run(link::delete("a1")).or_absent().unwrap(), None);
}

#[test]
fn addresses_are_listed_with_their_prefix_and_are_usable_at_once() {
    let host = host();
    host.run(NewBridge { name: "br", mac: None, group: 0 }.request()).unwrap();
    let br = index(&host, "br");
    host.run_all([link::change(br).no_link_local().request(), link::up(br)]).unwrap();
    for net in [net("10.1.2.1/24"), net("fd00:1::1/64")] {
        host.run(address::add(br, net, PrefixRoute::Connected)).unwrap();
        host.run(address::ensure(br, net)).unwrap();
        assert!(host.run(address::add(br, net, PrefixRoute::Connected)).unwrap_err().is_present());
    }
    let mut found: Vec<IpNet> = host.addresses(br).unwrap().iter().map(|a| a.net).collect();
    found.sort();
    assert_eq!(found, [net("10.1.2.1/24"), net("fd00:1::1/64")]);

    let bound = host.netns().run(|| std::net::UdpSocket::bind("[fd00:1::1]:0").map(drop)).unwrap();
    assert!(bound.is_ok(), "{bound:?}");
    host.run(address::delete(br, net("10.1.2.1/24"))).unwrap();
    assert!(host.run(address::delete(br, net("10.1.2.1/24"))).unwrap_err().is_absent());
}

#[test]
fn routes_by_link_and_by_gateway_are_found_again() {
    let host = host();
    host.run(NewVeth::pair("a", "b").request()).unwrap();
    let a = index(&host, "a");
    host.run_all([link::up("lo"), link::up("b"), link::up("a")]).unwrap();
    host.run(address::add(a, net("10.0.0.1/32"), PrefixRoute::Connected)).unwrap();
    host.run(address::add(a, net("fd00::1/128"), PrefixRoute::Connected)).unwrap();
    let routes = [
        Route::by_link(net("10.9.0.7/32"), a).from_source(ip("10.0.0.1")),
        Route::by_link(net("fd00:9::7/128"), a).from_source(ip("fd00::1")),
        Route::by_gateway(net("10.8.0.0/16"), ip("10.77.0.1"), Some(a)).on_link(),
        Route::by_gateway(net("fd00:8::/32"), ip("fd00:77::1"), Some(a)).on_link(),
        Route::by_gateway(net("0.0.0.0/0"), ip("10.9.0.7"), Some(a)),
    ];
    host.run_all(routes.iter().map(route::add)).unwrap();
    host.run_all(routes.iter().map(route::replace)).unwrap();

    let found = host.routes().unwrap();
    for wanted in &routes {
        let matches = |r: &&Route| r.destination == wanted.destination && r.protocol == route::PROTOCOL;
        let have = found.iter().find(matches).unwrap_or_else(|| panic!("{wanted:?} in {found:?}"));
        assert_eq!((have.link, have.gateway, have.source), (wanted.link, wanted.gateway, wanted.source));
    }
    assert_eq!(host.route_to(ip("10.8.1.1")).unwrap().unwrap().gateway, Some(ip("10.77.0.1")));
    assert_eq!(host.route_to(ip("2001:db8::1")).unwrap(), None);
    host.run_all(routes.iter().map(route::delete)).unwrap();
    assert!(!host.routes().unwrap().iter().any(|r| r.protocol == route::PROTOCOL));
}

#[test]
fn a_failed_request_in_a_batch_says_which_and_the_others_are_done() {
    let host = host();
    let outcome = host.try_each([link::up("lo"), link::up("missing"), link::delete("missing-too")]).unwrap();
    assert!(outcome[0].is_ok());
    assert!(outcome[1].as_ref().unwrap_err().to_string().contains("missing"), "{outcome:?}");
    assert!(outcome[2].as_ref().unwrap_err().is_absent());
    assert!(host.link("lo").unwrap().unwrap().up);
}

#[test]
fn port_state_ipv4_settings_and_pinned_neighbours_are_taken() {
    let host = host();
    host.run(NewBridge { name: "br", mac: None, group: 0 }.request()).unwrap();
    let br = index(&host, "br");
    host.run(NewVeth { master: Some(br), ..NewVeth::pair("a", "b") }.request()).unwrap();
    host.run_all([link::up("br"), link::up("b"), link::up("a")]).unwrap();
    host.run(link::change("a").port_state(PortState::Disabled).group(3).request()).unwrap();
    assert_eq!(host.link("a").unwrap().unwrap().group, 3);

    host.run(link::change("b").ipv4(Ipv4Setting::ReversePath, 2).request()).unwrap();
    assert_eq!(sysctl::read(host.netns(), "ipv4/conf/b/rp_filter").unwrap().as_deref(), Some("2"));
    host.run(neighbour::pin(index(&host, "b"), ip("10.0.0.9"), [2, 0, 0, 0, 0, 9])).unwrap();
    host.run(neighbour::pin(index(&host, "b"), ip("fd00::9"), [2, 0, 0, 0, 0, 9])).unwrap();
}

#[test]
fn settings_are_those_of_the_namespace() {
    let (one, two) = (Netns::create().unwrap(), Netns::create().unwrap());
    sysctl::write(&one, "ipv4/ip_forward", "1").unwrap();
    sysctl::write(&two, "ipv4/ip_forward", "0").unwrap();
    assert_eq!(sysctl::read(&one, "ipv4/ip_forward").unwrap().as_deref(), Some("1"));
    assert_eq!(sysctl::read(&two, "ipv4/ip_forward").unwrap().as_deref(), Some("0"));
    assert_eq!(sysctl::read(&one, "ipv4/conf/nothing/forwarding").unwrap(), None);
    assert_eq!(sysctl::interfaces(&one, "ipv4").unwrap(), ["lo"]);
}

#[test]
fn a_process_leads_to_its_namespace() {
    let netns = Netns::create().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test needs a process to look at")]
    let mut child = netns.run(|| std::process::Command::new("sleep").arg("60").spawn()).unwrap().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    assert_eq!(Netns::of_process(&pidfd).unwrap().id(), netns.id());
    assert_ne!(Netns::current().unwrap().id(), netns.id());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(Netns::of_process(&pidfd).is_err());
}

#[test]
fn a_handle_answers_many_threads_at_once() {
    let host = host();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let host = &host;
            scope.spawn(move || {
                for i in 0..10 {
                    let (a, b) = (format!("t{n}-{i}"), format!("p{n}-{i}"));
                    host.run(NewVeth::pair(&a, &b).request()).unwrap();
                    assert_eq!(host.link(&a).unwrap().unwrap().name, a);
                    assert!(host.links().unwrap().iter().any(|l| l.name == b));
                }
            });
        }
    });
    assert_eq!(host.links().unwrap().iter().filter(|l| l.name.starts_with('t')).count(), 80);
}

#[test]
fn a_namespace_is_reached_by_pid_without_looking_into_the_process() {
    #[expect(clippy::disallowed_methods, reason = "a test needs a process to be somewhere")]
    let sleeper = || std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let (home, away) = (Netns::create().expect("root is needed"), Netns::create().unwrap());
    let mut process = away.run(sleeper).unwrap();
    let found = home.run(|| Netns::of_stronger_process(process.id()).map(|netns| netns.id())).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(found.unwrap(), away.id());
    let of_nobody = home.run(|| Netns::of_stronger_process(process.id()).map(|netns| netns.id())).unwrap();
    assert!(of_nobody.unwrap_err().is_absent());
    for netns in [home, away] {
        let links = Rtnl::inside(&netns).unwrap().links().unwrap();
        assert_eq!(links.len(), 1, "only the loopback is there: {links:?}");
    }
}
