//! Isolation fails closed: a member of an isolation network is fenced, or it is not attached at all.
//!
//! ```text
//!   m1, m2 (members of "job")   n (no member)         d (another service)
//!      └──────── web bridge ────┘                     db bridge
//!                    └──────────── host 0 ─────────────┘──── switch ──── the outside
//! ```

use std::net::IpAddr;

use overlayd_core::protocol::{AttachContainer, Request, Response};
use overlayd_testkit::lab::{
    self, Client, Cluster, Namespace, OUTSIDE, OUTSIDE_V6, Underlay, attach_request,
    probe::{ping, pings},
};

use crate::container;

#[test]
fn a_member_is_fenced_or_not_attached() {
    if !lab::available() {
        return;
    }
    for (cluster, outside) in [(Cluster::V4, IpAddr::from(OUTSIDE)), (Cluster::V6, IpAddr::from(OUTSIDE_V6))] {
        let mut lab = crate::lab(1, &Underlay::default());
        let host = &mut lab.hosts[0];
        let mut client = host.start();
        cluster.raise(&mut client, 0, &["web", "db"], host.v4());
        let [m1, m2, n, d] = [(); 4].map(|()| container());
        let others = [client.attach(n.pid(), "web"), client.attach(d.pid(), "db")];
        let before = host.facts();
        match (member(&mut client, &m1), member(&mut client, &m2)) {
            (Response::Attached(one), Response::Attached(two)) => {
                let node = client.status().node_ip.expect("a node address");
                fenced(&m1, &[two.ip, node, outside], &others);
                assert!(pings(&n, one.ip) && pings(&d, one.ip), "who is no member may call a member");
            }
            (Response::Err { .. }, Response::Err { .. }) => {
                host.comes_back_to(&before);
                assert_eq!(m1.run(&["ip", "-oneline", "link"]).lines().count(), 1, "only the loopback");
            }
            mixed => panic!("{mixed:?}"),
        }
    }
}

fn member(client: &mut Client, container: &Namespace) -> Response {
    let Request::AttachContainer(plain) = attach_request(container.pid(), "web") else { panic!("an attach") };
    let request = AttachContainer { isolation_network: Some("job".into()), ..plain };
    client.call(Request::AttachContainer(request)).expect("an answer")
}

fn fenced(member: &Namespace, open: &[IpAddr], closed: &[IpAddr]) {
    for address in open {
        assert!(pings(member, *address), "the member does not reach {address}");
    }
    for address in closed {
        assert_eq!(ping(member, *address, 56), None, "the member reaches {address}");
    }
}
