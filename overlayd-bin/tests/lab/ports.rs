//! Ports of the host that lead to containers, for as long as the orchestrator wants them.
//!
//! ```text
//!   the outside ════ switch ════ host 0 :8000-8003 ── web bridge ── a :80-83   b
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlayd_core::{
    contract::PortProtocol,
    protocol::{AttachHandle, PortSpec, Request, Response},
};
use overlayd_testkit::lab::{self, Lab, LabCluster, Namespace, Underlay, probe::ReachService};

use crate::container;

const BOTH: [PortProtocol; 2] = [PortProtocol::Tcp, PortProtocol::Udp];

#[test]
fn ipv4_published_ports_last_through_a_crash_and_go_with_their_container() {
    life_of_ports(LabCluster::V4);
}

#[test]
fn ipv6_published_ports_last_through_a_crash_and_go_with_their_container() {
    life_of_ports(LabCluster::V6);
}

struct Scene {
    lab: Lab,
    own: IpAddr,
    /// What listens in the first and in the second container, at the second port of the range.
    services: [Vec<ReachService>; 2],
}

impl Scene {
    /// Whether the outside reaches the first or the second container by the second port of the range.
    fn leads_to(&self, container: usize) -> bool {
        let to = (self.own, 8001).into();
        self.services[container].iter().all(|service| service.asked_by(&self.lab.core, to, None).is_some())
    }

    fn leads_nowhere(&self) -> bool {
        let to = (self.own, 8001).into();
        self.services.iter().flatten().all(|service| service.is_unheard_by(&self.lab.core, to, None))
    }
}

fn life_of_ports(cluster: LabCluster) {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    cluster.join(&mut lab.hosts, &["web"], lab::Host::v4);
    let (own, any): (IpAddr, IpAddr) = match cluster {
        LabCluster::V4 => (lab.hosts[0].v4(), Ipv4Addr::UNSPECIFIED.into()),
        LabCluster::V6 => (lab.hosts[0].v6(), Ipv6Addr::UNSPECIFIED.into()),
    };
    let ends = [container(), container()];
    let serve = |end: &Namespace| BOTH.map(|protocol| ReachService::start(end, (any, 81).into(), protocol)).into();
    let mut client = lab.hosts[0].client();
    for end in &ends {
        client.attach(end.pid(), "web");
    }
    let services = [serve(&ends[0]), serve(&ends[1])];
    let mut scene = Scene { lab, own, services };
    assert!(scene.leads_nowhere());
    client.ok(publish(&ends[0]));
    client.ok(publish(&ends[0]));
    assert!(scene.leads_to(0));
    let Response::Err { message, .. } = client.call(publish(&ends[1])).expect("an answer") else {
        panic!("two containers have one port")
    };
    assert!(message.contains(&format!("pid {}", ends[0].pid())), "{message}");
    scene.lab.hosts[0].kill();
    assert!(scene.leads_to(0), "while the daemon is dead");
    let mut client = scene.lab.hosts[0].start();
    assert!(scene.leads_to(0), "after its return");
    client.detach(ends[0].pid());
    assert!(scene.leads_nowhere(), "the container is detached");
    client.ok(publish(&ends[1]));
    assert!(scene.leads_to(1), "the next container takes them");
    client.ok(Request::PublishPorts { handle: AttachHandle::LinuxPid { pid: ends[1].pid() }, ports: vec![] });
    assert!(scene.leads_nowhere(), "withdrawn");
}

/// A range of four, TCP and UDP.
fn publish(container: &Namespace) -> Request {
    let port =
        |protocol| PortSpec { protocol, host_ip: None, host_port: 8000, host_port_end: Some(8003), container_port: 80 };
    let handle = AttachHandle::LinuxPid { pid: container.pid() };
    Request::PublishPorts { handle, ports: BOTH.map(port).to_vec() }
}
