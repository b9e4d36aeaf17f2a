//! Identities that the daemon issues to what is on this host: a VM that runs WireGuard itself, and a process that has an
//! address on the overlay.
//!
//! ```text
//!   c ── web bridge ── host 0 (overlayd; a process on it with an alias) ════ switch ════ host 1, the VM: wireguard-go
//! ```

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use overlayd_core::protocol::{AttachHandle, Request, Response};
use overlayd_testkit::{
    lab::{
        self, LabClient, LabCluster, Underlay,
        probe::{ping, transfer},
    },
    requests::attach,
};

use crate::{
    PATIENCE, container,
    edge::{WireGuard, reaches},
    until,
};

fn attach_to_web(client: &mut LabClient, handle: AttachHandle) -> Response {
    client.ask(Request::AttachContainer(attach(handle, "web")))
}

fn a_guest_is_a_member_of_its_service(cluster: LabCluster) {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(2, &Underlay::default());
    let vm = lab.hosts.pop().expect("a second host");
    let host = &mut lab.hosts[0];
    let before = host.facts();
    let mut client = host.start();
    cluster.raise(&mut client, 0, &["web"], host.v4());
    let one = container();
    let ip = client.attach(one.pid(), "web");
    let handle = AttachHandle::GuestManaged { id: "vm-55".into() };
    let Response::GuestConfig(config) = attach_to_web(&mut client, handle.clone()) else { panic!("no config") };
    let mut node = config.peers[0].clone();
    // The runtime of the VM puts an address here that the guest can send to.
    node.endpoint = SocketAddr::new(host.v4(), config.listen_port).to_string();
    let interface = WireGuard::start(&vm.namespace, &config.private_key, config.overlay_ip, &node, cluster.cidr());
    assert!(reaches(&vm.namespace, ip), "the guest does not reach the container");
    transfer(&one, &vm.namespace, config.overlay_ip, 200_000).unwrap_or_else(|error| panic!("{error}"));
    let Response::GuestConfig(again) = attach_to_web(&mut client, handle.clone()) else { panic!("no config") };
    assert_eq!(again, config, "a repeated attach changes nothing");
    client.ok(Request::DetachContainer { handle });
    assert_eq!(ping(&one, config.overlay_ip, 56), None, "a detached guest is reached");
    drop(interface);
    client.ok(Request::TeardownGlobalOverlay);
    host.comes_back_to(&before);
}

#[test]
fn an_ipv4_guest_is_a_member_of_its_service() {
    a_guest_is_a_member_of_its_service(LabCluster::V4);
}

#[test]
fn an_ipv6_guest_is_a_member_of_its_service() {
    a_guest_is_a_member_of_its_service(LabCluster::V6);
}

#[test]
fn a_process_of_the_host_is_reached_at_its_own_address_across_hosts() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(2, &Underlay::default());
    LabCluster::V4.join(&mut lab.hosts, &["web"], lab::Host::v4);
    let (host, far) = (&lab.hosts[0], container());
    lab.hosts[1].client().attach(far.pid(), "web");
    let mut client = host.client();
    let handle = AttachHandle::HostShared { id: "hs-19".into() };
    let Response::Attached(attached) = attach_to_web(&mut client, handle.clone()) else { panic!("no address") };
    let own = SocketAddr::new(attached.ip, 8080);
    let listener = host.namespace.enter(|| TcpListener::bind(own)).expect("the alias is the process's own");
    let connects = || far.enter(|| TcpStream::connect_timeout(&own, PATIENCE).is_ok());
    assert!(connects(), "the process is not reached at its address");
    drop(listener);
    client.ok(Request::DetachContainer { handle });
    until("the alias is gone", || host.namespace.enter(|| UdpSocket::bind((attached.ip, 0)).is_err()));
}
