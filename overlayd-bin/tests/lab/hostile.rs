//! Clients and strangers that mean harm, against the real daemon; next to them an honest client goes on with its work.
//!
//! ```text
//!   slow, greedy and mute clients ──┐
//!                                   ├── socket ── host 0 ════ switch ════ host 1 ── flood of handshakes
//!   an honest client ───────────────┘                │ web bridge
//!                                                container
//! ```

mod flood;

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use overlayd_core::protocol::{Frame, MAX_FRAME_LEN, PeerScope, PeerSpec, Request, Response};
use overlayd_testkit::lab::{self, Host, Lab, LabCluster, Underlay, probe::pings};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::container;

/// Most memory in KiB that the daemon may ever have held: some ten times what it needs.
const MOST_MEMORY: u64 = 400 * 1024;
/// The daemon's patience with a frame or an untaken reply, in seconds.
const FRAME_SECS: u64 = 2;
/// Within this an honest client has its answer, however loaded the machine is.
const PATIENCE: Duration = Duration::from_secs(15);

/// One host with a network, whose daemon loses its patience soon.
fn at_work() -> Lab {
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    fs::create_dir_all(host.data_dir()).expect("a data directory");
    let settings = format!("[deadlines]\nframe_secs = {FRAME_SECS}\n");
    fs::write(host.data_dir().join("overlayd.toml"), settings).expect("a settings file");
    let mut client = host.start();
    LabCluster::V4.raise(&mut client, 0, &["web"], host.v4());
    lab
}

/// Whether what is tested here has nothing to do with the kernel that the tests run under.
fn told_elsewhere() -> bool {
    let kernel = std::env::var("OVERLAYD_WIREGUARD").is_ok_and(|which| which == "kernel");
    if kernel {
        println!("SKIPPED: the control socket and WireGuard in user space are the same under every kernel");
    }
    kernel
}

/// Does harm while an honest client works, and returns how often that was answered, and the longest that took.
fn beside_an_honest_client(host: &Host, harm: impl FnOnce()) -> (usize, Duration) {
    let done = AtomicBool::new(false);
    let mut client = host.client();
    let container = container();
    thread::scope(|scope| {
        let honest = scope.spawn(|| {
            let (mut answered, mut worst) = (0, Duration::ZERO);
            while !done.load(Ordering::Relaxed) || answered == 0 {
                let start = Instant::now();
                client.status();
                client.attach(container.pid(), "web");
                client.detach(container.pid());
                worst = worst.max(start.elapsed());
                answered += 3;
                thread::sleep(Duration::from_millis(5));
            }
            (answered, worst)
        });
        // The honest client must end also when the harm panics.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(harm));
        done.store(true, Ordering::Relaxed);
        let told = honest.join().expect("an honest client is always answered");
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        told
    })
}

/// The daemon lives, serves, and never held too much.
fn unharmed(host: &Host, pid: u32, what: &str, (answered, worst): (usize, Duration)) {
    let peak = peak_memory(host.daemon_pid());
    println!("{what}: {answered} honest requests answered, worst round {worst:?}; peak memory {} MiB", peak / 1024);
    assert_eq!(host.daemon_pid(), pid);
    host.client().status();
    assert!(!host.log().contains("panicked"), "something panicked");
    assert!(peak < MOST_MEMORY, "{what}: {peak} KiB");
    assert!(worst < PATIENCE, "{what}: {worst:?}");
}

/// In KiB.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn connect(host: &Host) -> UnixStream {
    let stream = UnixStream::connect(host.socket()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

/// Whether the daemon has ended the connection, or does so soon.
fn is_let_go(stream: &mut UnixStream) -> bool {
    let mut rest = [0; 4096];
    loop {
        match overlayd_testkit::uninterrupted(|| stream.read(&mut rest)) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// A request with so many bytes of blanks around it.
fn frame_of(len: usize) -> Vec<u8> {
    let body = Frame::Request { id: 1, request: Request::Status }.encode().expect("JSON");
    let mut bytes = u32::try_from(len).expect("a length").to_le_bytes().to_vec();
    bytes.resize(4 + len - body.len(), b' ');
    bytes.extend_from_slice(&body);
    bytes
}

#[test]
fn clients_that_drip_or_stop_inside_a_frame_are_let_go() {
    if !lab::available() || told_elsewhere() {
        return;
    }
    let lab = at_work();
    let host = &lab.hosts[0];
    let pid = host.daemon_pid();
    let told = beside_an_honest_client(host, || {
        let mut slow: Vec<UnixStream> = (0..300).map(|_| connect(host)).collect();
        for (number, stream) in slow.iter_mut().enumerate() {
            let begun: &[u8] = if number % 2 == 0 { &[40, 0] } else { b"\x28\0\0\0{\"type\":" };
            stream.write_all(begun).expect("the daemon listens");
        }
        let start = Instant::now();
        // One byte now and then buys no time.
        while start.elapsed() < Duration::from_secs(FRAME_SECS) {
            for stream in &mut slow {
                // One that was let go already takes nothing more.
                let _ = stream.write_all(b" ");
            }
            thread::sleep(Duration::from_millis(300));
        }
        assert!(slow.iter_mut().all(is_let_go), "a slow client is still connected");
    });
    unharmed(host, pid, "300 slow clients", told);
}

#[test]
fn many_large_frames_at_once_take_bounded_memory() {
    if !lab::available() || told_elsewhere() {
        return;
    }
    let lab = at_work();
    let host = &lab.hosts[0];
    let pid = host.daemon_pid();
    let told = beside_an_honest_client(host, || {
        // The largest that is allowed is answered, one byte more is not.
        let mut stream = connect(host);
        stream.write_all(&frame_of(MAX_FRAME_LEN)).expect("the daemon reads");
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("an answer");
        let mut stream = connect(host);
        stream.write_all(&(MAX_FRAME_LEN as u32 + 1).to_le_bytes()).expect("the daemon reads");
        assert!(is_let_go(&mut stream), "a frame that is too long was waited for");
        // A hundred that are never finished: 800 MiB, if the daemon took them all in.
        let almost = frame_of(MAX_FRAME_LEN);
        let almost = &almost[..almost.len() - 1];
        thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    let mut stream = connect(host);
                    // The daemon need not take it all.
                    let _ = stream.write_all(almost);
                    assert!(is_let_go(&mut stream), "an unfinished frame is still waited for");
                });
            }
        });
    });
    unharmed(host, pid, "100 unfinished frames of 8 MiB", told);
}

#[test]
fn ten_thousand_connections_are_too_many_and_do_no_harm() {
    if !lab::available() || told_elsewhere() {
        return;
    }
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("a limit of descriptors");
    let lab = at_work();
    let host = &lab.hosts[0];
    let pid = host.daemon_pid();
    let told = beside_an_honest_client(host, || {
        let mut open: Vec<UnixStream> = (0..10_000).map(|_| connect(host)).collect();
        let mut last = open.pop().expect("a connection");
        assert!(is_let_go(&mut last), "the last of ten thousand was served");
        let mut first = open.remove(0);
        first.write_all(&frame_of(200)).expect("the daemon reads");
        let mut length = [0; 4];
        first.read_exact(&mut length).expect("those that came first are served");
    });
    // Their places are free again.
    let mut client = host.client();
    client.status();
    unharmed(host, pid, "10,000 connections", told);
    let refused = host.log().matches("connections are refused").count();
    assert!((1..200).contains(&refused), "{refused} lines about refused connections");
}

#[test]
fn clients_that_never_read_are_no_burden() {
    if !lab::available() || told_elsewhere() {
        return;
    }
    let lab = at_work();
    let host = &lab.hosts[0];
    let pid = host.daemon_pid();
    let idle = connect(host);
    let told = beside_an_honest_client(host, || {
        let mut client = host.client();
        for round in 0..4 {
            for number in 0..200 {
                client.ok(stranger(round, number));
            }
            for number in 0..200 {
                client.ok(Request::RemovePeer { pubkey: key(round, number), scope: PeerScope::Global });
            }
        }
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| asks_for_ever(host));
            }
        });
    });
    unharmed(host, pid, "20 clients that ask and never read", told);
    // Who asks nothing may sleep for as long as it likes, through any number of events.
    let mut idle = idle;
    idle.write_all(&frame_of(100)).expect("the daemon still listens");
    let mut length = [0; 4];
    idle.read_exact(&mut length).expect("and has something to say");
}

/// Sends requests until the daemon takes no more of them, and then until it has had enough.
fn asks_for_ever(host: &Host) {
    let mut stream = connect(host);
    let request = frame_of(100);
    let start = Instant::now();
    while stream.write_all(&request).is_ok() {
        assert!(start.elapsed() < PATIENCE, "the daemon never has enough");
    }
}

fn key(round: u8, number: u8) -> String {
    overlayd_core::keys::PrivateKey::from_bytes([7 + round, number, 9].repeat(11)[..32].try_into().expect("32 bytes"))
        .public_key()
        .to_base64()
}

fn stranger(round: u8, number: u8) -> Request {
    Request::AddPeer {
        peer: PeerSpec {
            public_key: key(round, number),
            endpoint: format!("192.0.2.200:{}", 20_000 + u16::from(number)),
            allowed_ips: format!("10.77.250.{number}/32"),
            persistent_keepalive_secs: 0,
            candidates: Vec::new(),
        },
        scope: PeerScope::Global,
    }
}

#[test]
fn without_descriptors_the_daemon_refuses_clearly_and_recovers() {
    if !lab::available() || told_elsewhere() {
        return;
    }
    let lab = at_work();
    let host = &lab.hosts[0];
    let pid = host.daemon_pid();
    let process = Pid::from_raw(i32::try_from(pid).expect("a PID")).expect("a PID");
    let in_use = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count() as u64;
    let mut client = host.client();
    client.status();
    let container = container();
    let tight = Rlimit { current: Some(in_use + 4), maximum: getrlimit(Resource::Nofile).maximum };
    let before = prlimit(Some(process), Resource::Nofile, tight).expect("a limit");
    let crowd: Vec<UnixStream> = (0..64).map(|_| connect(host)).collect();
    let start = Instant::now();
    let refused = loop {
        client.status();
        let reply = client.call(lab::attach_request(container.pid(), "web")).expect("an answer");
        if let Response::Err { message, .. } = reply {
            break message;
        }
        client.detach(container.pid());
        assert!(start.elapsed() < PATIENCE, "an attach needs no descriptors");
    };
    assert!(refused.to_lowercase().contains("too many open files"), "{refused}");
    assert_eq!(client.status().services[0].attachments, 0);
    prlimit(Some(process), Resource::Nofile, before).expect("a limit");
    drop(crowd);
    let ip = client.attach(container.pid(), "web");
    assert!(pings(&container, host.client().status().node_ip.expect("a node address")), "{ip}");
    unharmed(host, pid, "no descriptors left", (1, start.elapsed().min(PATIENCE / 2)));
}
