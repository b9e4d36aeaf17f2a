//! Which WireGuard the daemon uses, and what that means for packets while the daemon is away.
//!
//! ```text
//!   container ── host 0 (daemon ends, crashes, starts) ════ switch ════ host 1 ── container
//! ```

use std::{
    fs::File,
    net::{IpAddr, SocketAddr},
    process::Child,
    time::Duration,
};

use overlayd_core::protocol::Request;
use overlayd_testkit::lab::{
    self, Host, LabClient, LabCluster, Namespace, Underlay,
    probe::{UdpEcho, UdpFlow, pings},
};

use crate::container;

/// What the daemon names its choice by, where this binary on this host can have it.
fn kernel(host: &Host) -> Option<&'static str> {
    let has = host.namespace.try_run(&["ip", "link", "add", "probe", "type", "wireguard"]).is_ok();
    if has {
        host.run(&["ip", "link", "del", "probe"]);
    }
    (cfg!(feature = "kernel-wg") && has).then_some("kernel-wg")
}

fn userspace() -> Option<&'static str> {
    cfg!(feature = "userspace-wg").then_some("userspace-wg")
}

#[test]
fn auto_takes_the_kernels_where_it_is_there_and_says_once_what_it_took() {
    if !lab::available() {
        return;
    }
    let lab = crate::lab(1, &Underlay::default());
    let host = &lab.hosts[0];
    let log = ran_with(host, "auto").unwrap_or_else(|complaint| panic!("{complaint}"));
    let told: Vec<&str> = log.lines().filter(|line| line.contains("wireguard=")).collect();
    let expected = kernel(host).or(userspace()).unwrap_or("none");
    assert!(matches!(told[..], [line] if line.contains(&format!("wireguard=\"{expected}\""))), "{told:?}");
}

#[test]
fn what_is_forced_is_taken_or_ends_the_start_with_what_is_missing() {
    if !lab::available() {
        return;
    }
    let lab = crate::lab(1, &Underlay::default());
    let host = &lab.hosts[0];
    let before = host.facts();
    for (forced, there) in [("kernel", kernel(host)), ("userspace", userspace())] {
        match (ran_with(host, forced), there) {
            (Ok(log), Some(name)) => assert!(log.contains(&format!("wireguard=\"{name}\"")), "{log}"),
            (Err(complaint), None) => {
                assert!(complaint.contains("exit status: 1"), "{complaint}");
                assert!(complaint.contains(forced) && complaint.contains("choose `"), "{complaint}");
            }
            (Ok(log), None) => panic!("{forced} is absent, and the daemon runs: {log}"),
            (Err(complaint), Some(_)) => panic!("{forced} is there, and the daemon says: {complaint}"),
        }
        host.comes_back_to(&before);
    }
}

/// Starts a daemon with this choice until it answers, and ends it: its log, or how it ended by itself.
fn ran_with(host: &Host, choice: &str) -> Result<String, String> {
    let (data, socket) = (host.data_dir().join(choice), host.data_dir().join(format!("{choice}.sock")));
    std::fs::create_dir_all(&data).expect("a directory");
    let path = data.join("log");
    let paths = [crate::overlayd(), &data, &socket].map(|path| path.to_str().expect("a path in UTF-8"));
    let arguments = [paths[0], "--data-dir", paths[1], "--socket", paths[2], "--wireguard", choice];
    let log = File::create(&path).expect("a file");
    let mut daemon = host.namespace.command(&arguments);
    let mut daemon = daemon.env("RUST_LOG", "info").stderr(log).spawn().expect("nsenter starts");
    let answered = answers(&mut daemon, &socket);
    if answered {
        daemon.kill().expect("a signal");
    }
    let status = daemon.wait().expect("an end");
    let said = std::fs::read_to_string(&path).expect("a log");
    if answered { Ok(said) } else { Err(format!("{status}: {said}")) }
}

/// Whether the daemon answers before it ends.
fn answers(daemon: &mut Child, socket: &std::path::Path) -> bool {
    for _ in 0..200 {
        // One that ends listens for a moment before it does.
        let client = LabClient::connect(socket, Duration::from_millis(100));
        if client.is_ok_and(|mut client| client.call(Request::Status).is_ok()) {
            return true;
        }
        if daemon.try_wait().expect("a child").is_some() {
            return false;
        }
    }
    panic!("the daemon neither answers nor ends");
}

#[test]
fn no_packet_is_lost_while_the_daemon_is_away_where_the_kernel_moves_them() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(2, &Underlay::default());
    let nodes = LabCluster::V4.join(&mut lab.hosts, &["web"], Host::v4);
    let ends = [container(), container()];
    let attach = |(host, end): (&Host, &Namespace)| host.client().attach(end.pid(), "web");
    let ips: Vec<IpAddr> = lab.hosts.iter().zip(&ends).map(attach).collect();
    assert!(pings(&ends[0], ips[1]) && pings(&ends[1], ips[0]));
    let by_kernel =
        lab.hosts[0].run(&["ip", "-oneline", "link", "show", "type", "wireguard"]).contains(&nodes[0].device);
    let echo = UdpEcho::start(&ends[1], ips[1]);
    let flows = [(); 2].map(|()| UdpFlow::start(&ends[0], SocketAddr::new(ips[1], echo.port)));
    for round in 0..4 {
        let host = &mut lab.hosts[round % 2];
        if round < 2 {
            assert!(host.terminate().success());
        } else {
            host.kill();
        }
        if by_kernel {
            assert!(pings(&ends[0], ips[1]) && pings(&ends[1], ips[0]), "round {round}: while no daemon runs");
        }
        let mut client = host.start();
        // What an orchestrator says again when it is back.
        client.ok(nodes[(round + 1) % 2].as_peer());
        assert_eq!(client.attach(ends[round % 2].pid(), "web"), ips[round % 2]);
        assert!(pings(&ends[0], ips[1]) && pings(&ends[1], ips[0]), "round {round}: with the next daemon");
    }
    for flow in flows {
        let talk = flow.end();
        println!("{talk:?}");
        // In user space the packets of a device go by the process, and none while there is none.
        assert!(!by_kernel || (talk.lost.is_empty() && talk.answered > 20), "{talk:?}");
    }
}
