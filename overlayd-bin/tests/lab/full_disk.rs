//! The disk with the state is full: what would change the state is refused, everything else goes on, and so do changes once
//! there is room again.
//!
//! ```text
//!   2 containers ── web bridge ── host 0, whose data directory is a small file system of its own
//! ```

use std::net::IpAddr;

use overlayd_core::protocol::{Request, Response};
use overlayd_testkit::lab::{self, Host, LabCluster, Underlay, probe::pings};

use crate::container;

/// Addresses that may be given before the file system is full to the last page.
const PAGES: usize = 2000;

#[test]
fn a_full_disk_refuses_changes_and_stops_nothing_else() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    let data = host.data_dir();
    let data = data.to_str().expect("a path in UTF-8");
    host.run(&["mkdir", "-p", data]);
    host.run(&["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", data]);
    LabCluster::V4.raise(&mut host.start(), 0, &["web"], "192.0.2.1".parse().expect("an address"));
    let containers = [container(), container()];
    let mut client = host.client();
    let ips = containers.each_ref().map(|container| client.attach(container.pid(), "web"));
    let ballast = format!("{data}/ballast");
    // It ends by the complaint that the test is about.
    drop(host.namespace.try_run(&["dd", "if=/dev/zero", &format!("of={ballast}"), "bs=4k"]));

    let (mut given, complaint) = allocate_until_refused(host);
    assert!(complaint.contains("state.redb") && complaint.contains("nothing was changed"), "{complaint}");
    assert_eq!(client.status().services[0].attachments, 2, "reads go on");
    assert!(pings(&containers[0], ips[1]), "containers reach each other");
    let newcomer = container();
    let reply = client.call(lab::attach_request(newcomer.pid(), "web")).expect("an answer");
    assert!(matches!(reply, Response::Err { .. }), "an attach without a record: {reply:?}");

    host.run(&["rm", &ballast]);
    let late = client.attach(newcomer.pid(), "web");
    assert!(pings(&newcomer, ips[0]));
    host.kill();
    let mut client = host.start();
    assert_eq!(client.attach(newcomer.pid(), "web"), late);
    assert_eq!(client.attach(containers[0].pid(), "web"), ips[0]);
    // What was given out before is on record; what was refused is not.
    given.extend(ips.into_iter().chain([late]));
    let next = allocate(&mut client).expect("an address");
    assert!(!given.contains(&next), "{next} was given out twice");
}

fn allocate_until_refused(host: &Host) -> (Vec<IpAddr>, String) {
    let mut client = host.client();
    let mut given = Vec::new();
    for _ in 0..PAGES {
        match allocate(&mut client) {
            Ok(ip) => given.push(ip),
            Err(complaint) => return (given, complaint),
        }
        // The same few addresses over and over: the block must not come to its end first.
        if given.len() > 8 {
            let ip = given.remove(0);
            if let Response::Err { message, .. } = client.call(Request::ReleaseIp { ip }).expect("an answer") {
                given.push(ip);
                return (given, message);
            }
        }
    }
    panic!("{PAGES} changes were recorded on a full disk")
}

fn allocate(client: &mut lab::LabClient) -> Result<IpAddr, String> {
    let request = Request::AllocateIp { service: "web".into(), join_global: false };
    match client.call(request).expect("an answer") {
        Response::Ip { ip } => Ok(ip),
        Response::Err { message, .. } => Err(message),
        other => panic!("{other:?}"),
    }
}
