//! The daemon is replaced while packets flow, and none is lost.
//!
//! ```text
//!   container ── web bridge ── host 0 (replaced) ════ switch ════ host 1 ── web bridge ── container
//!        └──── a stream of numbered datagrams each way, and a TCP connection ────┘
//! ```

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use overlayd_core::protocol::{Request, Response, StatusSnapshot};
use overlayd_testkit::lab::{
    self, Host, Lab, LabCluster, Namespace, Underlay,
    probe::{StreamTally, TcpConversation, TcpStreamProbe, pings},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::container;

/// How often in a row the daemon is replaced.
const TIMES: usize = 3;

/// Two hosts with a container each, which have spoken to each other.
struct AtWork {
    lab: Lab,
    ends: [Namespace; 2],
    ips: Vec<IpAddr>,
}

impl AtWork {
    /// With a program of its own, which can be exchanged.
    fn with(program: &Path) -> Self {
        let mut lab = Lab::new(2, &Underlay::default(), program);
        LabCluster::V4.join(&mut lab.hosts, &["web"], Host::v4);
        let ends = [container(), container()];
        let attached = lab.hosts.iter().zip(&ends).map(|(host, end)| host.client().attach(end.pid(), "web"));
        let ips = attached.collect();
        let work = Self { lab, ends, ips };
        work.is_connected();
        work
    }

    fn is_connected(&self) {
        assert!(pings(&self.ends[0], self.ips[1]), "to {}", self.ips[1]);
        assert!(pings(&self.ends[1], self.ips[0]), "to {}", self.ips[0]);
    }

    fn streams(&self) -> [TcpStreamProbe; 4] {
        let [host, other] = [&self.lab.hosts[0].namespace, &self.lab.hosts[1].namespace];
        let [here, there] = [0, 1].map(node_address);
        // A guest has one CPU, and does all that three hosts do.
        let beat = Duration::from_millis(if in_kernel() { 10 } else { 1 });
        [
            TcpStreamProbe::start(&self.ends[0], &self.ends[1], self.ips[1], beat),
            TcpStreamProbe::start(&self.ends[1], &self.ends[0], self.ips[0], beat),
            TcpStreamProbe::start(host, other, there, beat),
            TcpStreamProbe::start(other, host, here, beat),
        ]
    }
}

/// The first address of a node's slice is the node's own.
fn node_address(node: usize) -> IpAddr {
    let slice: ipnet::IpNet = LabCluster::V4.slice(node).parse().expect("a slice");
    slice.hosts().next().expect("a slice has hosts")
}

/// The program under test at a path where another one can be put.
fn exchangeable(directory: &Path) -> PathBuf {
    let program = directory.join("overlayd");
    fs::copy(crate::overlayd(), &program).expect("a copy of the program");
    program
}

/// What must be as before, in the answer of either process.
fn essence(status: StatusSnapshot) -> impl PartialEq + std::fmt::Debug {
    let peers: Vec<_> =
        status.peers.iter().cloned().map(|peer| (peer.public_key, peer.endpoint, peer.allowed_ips)).collect();
    (status.peer_count, status.services, peers, status.public_key)
}

fn show(names: [&str; 4], tallies: &[StreamTally]) {
    for (name, tally) in names.iter().zip(tallies) {
        println!(
            "{name}: {} sent, {} lost, {} doubled, {} overtaken, longest gap {:?}",
            tally.sent,
            tally.lost.len(),
            tally.doubled,
            tally.overtaken,
            tally.longest_gap
        );
    }
}

const NAMES: [&str; 4] = ["container to container", "and back", "node to node", "and back"];

#[test]
fn no_datagram_is_lost_while_the_daemon_is_replaced_again_and_again() {
    if !lab::available() {
        return;
    }
    let mut work = AtWork::with(crate::overlayd());
    let before =
        essence(work.lab.hosts[0].client().status_until(|status| status.peers[0].last_handshake_unix_secs > 0));
    let streams = work.streams();
    let conversation = TcpConversation::start(&work.ends[0], &work.ends[1], work.ips[1]);
    for round in 0..TIMES {
        streams[0].go_on_for(200);
        let (start, older) = (Instant::now(), work.lab.hosts[0].daemon_pid());
        let said = work.lab.hosts[0].upgrade(crate::overlayd()).unwrap_or_else(|error| panic!("{error}"));
        let answered = start.elapsed();
        assert!(work.lab.hosts[0].succeed().success(), "the older process ends well");
        println!("round {round}: {} after {answered:?}, alone after {:?}", said.trim(), start.elapsed());
        assert_ne!(work.lab.hosts[0].daemon_pid(), older);
    }
    streams[0].go_on_for(200);
    let tallies = TcpStreamProbe::end_all(streams);
    show(NAMES, &tallies);
    for (name, tally) in NAMES.iter().zip(&tallies) {
        assert!(tally.lost.is_empty(), "{name} lost {:?} of {}", tally.lost, tally.sent);
        assert_eq!(tally.doubled, 0, "{name}");
    }
    assert!(conversation.end().expect("the TCP connection lives on") > 0);
    let mut client = work.lab.hosts[0].client();
    assert_eq!(client.attach(work.ends[0].pid(), "web"), work.ips[0], "the container keeps its address");
    let after = essence(client.status_until(|status| status.peers[0].last_handshake_unix_secs > 0));
    assert_eq!(format!("{after:?}"), format!("{before:?}"));
    assert!(work.lab.hosts[0].terminate().success(), "the last successor ends as any daemon");
}

#[test]
fn a_client_waits_at_the_socket_and_is_never_refused() {
    if !lab::available() {
        return;
    }
    let mut work = AtWork::with(crate::overlayd());
    let socket = work.lab.hosts[0].socket();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // A connection may end while it is asked on, as with any daemon that ends; a new one is always accepted.
                let mut client = lab::LabClient::connect(&socket, Duration::ZERO).expect("the socket accepts");
                asked += u32::from(client.call(Request::Status).is_ok());
            }
            asked
        });
        for _ in 0..2 {
            work.lab.hosts[0].upgrade(crate::overlayd()).unwrap_or_else(|error| panic!("{error}"));
            work.lab.hosts[0].succeed();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        asking.join().expect("no connection was refused")
    });
    println!("{asked} requests were answered in that time");
    assert!(asked > 0);
}

/// Without an overlay there is nothing to lend, and so no other reason for the older daemon to stay.
#[test]
fn whoever_asked_for_it_has_the_answer_before_the_older_daemon_ends() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    let mut client = host.start();
    let full = fill(&mut client);
    let older = host.lock_owner();
    host.adopt_successor();
    let order = client.say(Request::Upgrade).expect("the daemon listens");
    crate::until("the successor is the daemon", || host.lock_owner() != older);
    assert_eq!(client.unread().expect("a socket"), full, "the answer waits in the older daemon");
    assert_eq!(client.reply(order).expect("an answer"), Response::Ok);
    assert!(host.succeed().success(), "the older process ends well");
    assert!(host.terminate().success());
}

/// Asks and reads nothing until the socket is full, so that the next reply has to wait in the daemon; how much is in it.
fn fill(client: &mut lab::LabClient) -> u64 {
    /// For one reply where there is room; the daemon lets a client go that takes none for ten.
    const LONG: Duration = Duration::from_secs(1);
    loop {
        let before = client.unread().expect("a socket");
        client.say(Request::Status).expect("the daemon listens");
        let asked = Instant::now();
        while client.unread().expect("a socket") == before {
            if asked.elapsed() > LONG {
                return before;
            }
            // What arrives behind something unread causes no event.
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_successor_that_cannot_start_leaves_the_older_daemon_at_work() {
    if !lab::available() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let program = exchangeable(directory.path());
    let work = AtWork::with(&program);
    let host = &work.lab.hosts[0];
    let older = host.lock_owner();
    let mut client = host.client();
    let streams = work.streams();
    let config = host.data_dir().join("overlayd.toml");
    fs::write(&config, "wiregard = \"auto\"\n").expect("a configuration");
    let complaint = host.upgrade(crate::overlayd()).expect_err("a successor with a broken configuration");
    assert!(complaint.contains("overlayd.toml") && complaint.contains("wiregard"), "{complaint}");
    fs::remove_file(&config).expect("no configuration");
    for (text, what) in [("#!/bin/sh\nexit 7\n", "exit status: 7"), ("no program at all", "Exec format error")] {
        exchange(&program, text);
        let complaint = host.upgrade(crate::overlayd()).expect_err("a program that is no daemon");
        assert!(complaint.contains(what), "{complaint}");
    }
    fs::remove_file(&program).expect("no program");
    let complaint = host.upgrade(crate::overlayd()).expect_err("no program");
    assert!(complaint.contains("No such file") && complaint.contains("could not start"), "{complaint}");
    assert_eq!(client.status().peer_count, 1, "even the connection is the same");
    assert_eq!(host.lock_owner(), older);
    let tallies = TcpStreamProbe::end_all(streams);
    show(NAMES, &tallies);
    assert!(tallies.iter().all(|tally| tally.lost.is_empty()), "{tallies:?}");
}

/// Puts another program in the place of the running one, as a package manager does.
fn exchange(program: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let new = program.with_extension("new");
    fs::write(&new, text).expect("a program");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("a program");
    fs::rename(&new, program).expect("the program's place");
}

/// The process that this one has started, once there is one; nothing when the patience ends first.
fn child_of(pid: Pid, patience: Duration) -> Option<Pid> {
    let start = Instant::now();
    while start.elapsed() < patience {
        let parent = pid.as_raw_nonzero().to_string();
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        for process in processes {
            let Some(number) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            let after_name = stat.rsplit(')').next().unwrap_or_default();
            if after_name.split_whitespace().nth(1) == Some(&parent) {
                return Pid::from_raw(number);
            }
        }
    }
    None
}

/// Whether a process is gone, or waits to be buried.
fn has_ended(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

/// Whether packets go through the kernel, with either daemon.
fn in_kernel() -> bool {
    std::env::var_os("OVERLAYD_WIREGUARD").is_some_and(|choice| choice == "kernel")
}

/// Moments after the successor has begun to exist, spread over all that happens. The older daemon stays for half a second
/// after everything is handed over, so it is there at each of them.
const MOMENTS: [u64; 7] = [0, 20, 50, 80, 120, 180, 260];

#[test]
fn a_successor_killed_in_the_middle_leaves_the_older_daemon_at_work() {
    if !lab::available() {
        return;
    }
    let work = AtWork::with(crate::overlayd());
    let host = &work.lab.hosts[0];
    let older = host.lock_owner();
    for moment in MOMENTS.map(Duration::from_millis) {
        let streams = work.streams();
        let answer = thread::scope(|scope| {
            let upgrading = scope.spawn(|| host.upgrade(crate::overlayd()));
            let successor = child_of(older, Duration::from_secs(20)).expect("a successor");
            // The moment is what the test is about; there is nothing to wait for.
            thread::sleep(moment);
            kill_process(successor, Signal::KILL).expect("a signal");
            upgrading.join().expect("the command")
        });
        println!("killed after {moment:?}: {answer:?}");
        if answer.is_ok() && (in_kernel() || has_ended(older)) {
            // With nothing to hand over the older daemon has ended by then, and on a machine that stood still for a while.
            println!("the older daemon had ended before");
            return;
        }
        work.is_connected();
        assert_eq!(host.client().status().peer_count, 1);
        assert_eq!(host.lock_owner(), older, "the older daemon goes on");
        show(NAMES, &TcpStreamProbe::end_all(streams));
    }
}

#[test]
fn an_older_daemon_killed_in_the_middle_leaves_its_successor_at_work() {
    if !lab::available() {
        return;
    }
    for moment in [0, 100, 600].map(Duration::from_millis) {
        let mut work = AtWork::with(crate::overlayd());
        let host = &mut work.lab.hosts[0];
        let older = host.lock_owner();
        host.upgrade(crate::overlayd()).unwrap_or_else(|error| panic!("{error}"));
        thread::sleep(moment);
        // It may have ended in the meantime.
        let _ = kill_process(older, Signal::KILL);
        host.succeed();
        assert_ne!(host.lock_owner(), older);
        work.is_connected();
        assert_eq!(work.lab.hosts[0].client().status().peer_count, 1);
    }
}
