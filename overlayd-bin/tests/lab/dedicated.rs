//! A service with a WireGuard device of its own: its containers reach each other across hosts over that device.
//!
//! ```text
//!   container ── bridge ── …-d ══ UDP 51421 ══ …-d ── bridge ── container
//!   host 0       …-g ─────────────────────────── …-g       host 1
//! ```

use overlayd_core::protocol::{OverlayMode, PeerScope, PeerSpec, Request, Response, ServiceOverlayInfo};
use overlayd_testkit::lab::{
    self, Host, LabCluster, Underlay,
    probe::{pings, transfer},
};

use crate::container;

fn scope() -> PeerScope {
    PeerScope::Service { service: "db".into() }
}

fn set_up(host: &Host) -> ServiceOverlayInfo {
    let request = Request::SetupServiceOverlay { service: "db".into(), mode: OverlayMode::Dedicated };
    match host.client().ask(request) {
        Response::ServiceOverlay(info) => info,
        other => panic!("{other:?}"),
    }
}

/// As an orchestrator tells a node of another: the peer first, its block afterwards.
fn tell(host: &Host, other: &Host, info: &ServiceOverlayInfo) {
    let public_key = info.wg_public_key.clone().expect("a dedicated service has a key");
    let endpoint = std::net::SocketAddr::new(other.v4(), info.wg_port.expect("and a port"));
    let peer = PeerSpec {
        public_key: public_key.clone(),
        endpoint: endpoint.to_string(),
        allowed_ips: format!("{}/32", info.overlay_ip.expect("and an address")),
        persistent_keepalive_secs: 25,
        candidates: vec![],
    };
    host.client().ok(Request::AddPeer { peer, scope: scope() });
    host.client().ok(Request::AddAllowedIp {
        pubkey: public_key,
        cidr: info.subnet.clone().expect("and a block"),
        scope: scope(),
    });
}

#[test]
fn containers_of_a_dedicated_service_reach_each_other_over_its_own_device() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(2, &Underlay::default());
    LabCluster::V4.join(&mut lab.hosts, &[], Host::v4);
    let infos: Vec<ServiceOverlayInfo> = lab.hosts.iter().map(set_up).collect();
    for (host, other) in [(0, 1), (1, 0)] {
        tell(&lab.hosts[host], &lab.hosts[other], &infos[other]);
    }
    let ends: Vec<_> = lab
        .hosts
        .iter()
        .map(|host| {
            let container = container();
            let ip = host.client().attach(container.pid(), "db");
            (container, ip)
        })
        .collect();
    assert!(pings(&ends[0].0, ends[1].1) && pings(&ends[1].0, ends[0].1));
    transfer(&ends[0].0, &ends[1].0, ends[1].1, 300_000).unwrap_or_else(|error| panic!("{error}"));
    for host in &lab.hosts {
        let status = host.client().status();
        assert_eq!((status.dedicated_services.len(), status.dedicated_services[0].peer_count), (1, 1));
        assert!(
            status.peers.iter().all(|peer| peer.last_handshake_unix_secs == 0),
            "the global device carried nothing"
        );
        host.client().ok(Request::TeardownServiceOverlay { service: "db".into() });
        assert!(host.client().status().dedicated_services.is_empty());
    }
}

#[test]
fn a_port_that_another_program_has_is_passed_over() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    let bind = |port: u16| move || std::net::UdpSocket::bind(("0.0.0.0", port)).expect("a free port");
    let _others = [host.namespace.enter(bind(51421)), host.namespace.enter(bind(51422))];
    let before = host.facts();
    let mut client = host.start();
    LabCluster::V4.raise(&mut client, 0, &[], host.v4());
    let info = set_up(host);
    assert_eq!(info.wg_port, Some(51423));
    assert_eq!(set_up(host), info, "a repeated setup says the same");
    host.terminate();
    let mut client = host.start();
    assert_eq!(set_up(host), info, "a restart keeps the port");
    client.ok(Request::TeardownGlobalOverlay);
    host.comes_back_to(&before);
}
