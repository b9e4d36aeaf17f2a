//! What clients hear without asking.
//!
//! ```text
//!   host 0 (overlayd) ════ switch ════ host 1 (overlayd, which moves to another port)
//! ```

use overlayd_core::protocol::{Event, Request, SetupGlobalOverlay};
use overlayd_testkit::lab::{self, Host, LabCluster, Underlay, probe::pings};

#[test]
fn clients_hear_that_a_peer_is_there_and_that_it_has_moved() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(2, &Underlay::default());
    let mut listening = lab.hosts[0].start();
    lab.hosts[1].start();
    let nodes: Vec<_> = lab
        .hosts
        .iter()
        .enumerate()
        .map(|(number, host)| LabCluster::V4.raise(&mut host.client(), number, &[], host.v4()))
        .collect();
    lab.hosts[0].client().ok(nodes[1].as_peer());
    lab.hosts[1].client().ok(nodes[0].as_peer());
    let far = || lab.hosts[1].client().status().node_ip.expect("a node has an address");
    assert!(pings(&lab.hosts[0].namespace, far()));
    let pubkey = nodes[1].public_key.clone();
    let healthy = Event::PeerHealthChanged { pubkey: pubkey.clone(), healthy: true };
    listening.hear(&healthy);
    let Request::SetupGlobalOverlay(setup) = LabCluster::V4.setup(1) else { panic!("a setup") };
    lab.hosts[1].client().ask(Request::SetupGlobalOverlay(SetupGlobalOverlay { wg_port: 51999, ..setup }));
    let near = listening.status().node_ip.expect("a node has an address");
    assert!(pings(&lab.hosts[1].namespace, near));
    let endpoint = std::net::SocketAddr::new(Host::v4(&lab.hosts[1]), 51999).to_string();
    listening.hear(&Event::NatEndpointChanged { pubkey, endpoint });
}
