//! Our device and an independent implementation, Debian's `wireguard-go`, in both directions.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    io::Write,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use overlayd_core::{
    contract::PeerChange,
    keys::{PrivateKey, PublicKey},
};
use support::{Host, Node, RunningDevice, endpoint, eventually, peer, psk, two_hosts};

/// `wireguard-go` on the right host: 10.77.0.2 and fd77::2, port 51820.
struct Foreign {
    name: String,
    key: PrivateKey,
    _process: RunningDevice,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // Killed as it is with the test, it leaves its socket.
        let _ = std::fs::remove_file(format!("/var/run/wireguard/{}.sock", self.name));
    }
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Foreign {
    fn start(host: &Host) -> Self {
        // Its control socket lies in a directory that all namespaces share, so the name must be unique.
        let name = format!("wgo{}x{}", std::process::id() % 100_000, COUNT.fetch_add(1, Ordering::Relaxed));
        let process = host.start("wireguard-go", &["-f", &name]);
        let foreign = Self { name: name.clone(), key: PrivateKey::generate(), _process: process };
        eventually("wireguard-go is up", || host.run("wg", &["show", &name]).status.success());
        foreign.set(host, &["private-key", "/dev/stdin", "listen-port", "51820"], &foreign.key.reveal_base64());
        host.must("ip", &["addr", "add", "10.77.0.2/24", "dev", &name]);
        host.must("ip", &["addr", "add", "fd77::2/64", "dev", &name]);
        host.must("ip", &["link", "set", &name, "mtu", "1420", "up"]);
        foreign
    }

    /// `wg set` with this on its standard input.
    #[expect(clippy::disallowed_methods, reason = "tests run the programs that operators use")]
    fn set(&self, host: &Host, arguments: &[&str], input: &str) {
        let mut command = std::process::Command::new("wg");
        command.args(["set", &self.name]).args(arguments).stdin(Stdio::piped());
        let mut child = host.netns.run(|| command.spawn()).unwrap().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "wg set {arguments:?}");
    }

    fn add_peer(&self, host: &Host, key: &PublicKey, more: &[&str]) {
        let key = key.to_base64();
        let arguments = [&["peer", &key, "allowed-ips", "10.77.0.1/32,fd77::1/128"], more].concat();
        self.set(host, &arguments, "");
    }

    /// One column of `wg show`, as `endpoints` or `latest-handshakes`.
    fn show(&self, host: &Host, what: &str) -> String {
        let text = host.must("wg", &["show", &self.name, what]);
        text.split_whitespace().last().unwrap_or_default().to_owned()
    }
}

fn ours_and_theirs() -> (Host, Host, Node, Foreign) {
    let (left, right) = two_hosts();
    let a = Node::new(&left);
    a.ensure(&a.plan(&["10.77.0.1/24", "fd77::1/64"])).unwrap();
    let b = Foreign::start(&right);
    (left, right, a, b)
}

#[test]
fn we_begin_the_handshake_with_wireguard_go() {
    let (left, right, a, b) = ours_and_theirs();
    b.add_peer(&right, &a.public(), &[]);
    a.set(peer(b.key.public_key(), "192.0.2.2:51820", &["10.77.0.2/32", "fd77::2/128"]));
    left.must_ping("10.77.0.2");
    left.must_ping("fd77::2");
    left.must("ping", &["-c", "3", "-i", "0.2", "-W", "2", "-M", "do", "-s", "1392", "10.77.0.2"]);
    right.must_ping("10.77.0.1");
}

#[test]
fn wireguard_go_begins_the_handshake_with_us() {
    let (_left, right, a, b) = ours_and_theirs();
    a.set(peer(b.key.public_key(), "", &["10.77.0.2/32", "fd77::2/128"]));
    b.add_peer(&right, &a.public(), &["endpoint", "[fd00:db8::1]:51820"]);
    right.must_ping("10.77.0.1");
    right.must("ping", &["-c", "3", "-i", "0.2", "-W", "2", "-M", "do", "-s", "1392", "10.77.0.1"]);
    assert_eq!(a.peer(&b.key.public_key()).endpoint, Some(endpoint("[fd00:db8::2]:51820")));
}

#[test]
fn a_pre_shared_key_is_shared_with_wireguard_go() {
    let (left, right, a, b) = ours_and_theirs();
    let mut plan = peer(b.key.public_key(), "192.0.2.2:51820", &["10.77.0.2/32"]);
    plan.preshared_key = psk(7);
    a.set(plan);
    b.add_peer(&right, &a.public(), &[]);
    assert!(!left.pings("10.77.0.2"), "only one side has the key");
    let secret = PrivateKey::from_bytes([7; 32]).reveal_base64();
    b.set(&right, &["peer", &a.public().to_base64(), "preshared-key", "/dev/stdin"], &secret);
    left.must_ping("10.77.0.2");
}

#[test]
fn wireguard_go_follows_us_to_another_port_and_address() {
    let (left, right, a, b) = ours_and_theirs();
    b.add_peer(&right, &a.public(), &[]);
    a.set(peer(b.key.public_key(), "192.0.2.2:51820", &["10.77.0.2/32", "fd77::2/128"]));
    left.must_ping("10.77.0.2");
    let mut plan = a.plan(&["10.77.0.1/24", "fd77::1/64"]);
    plan.listen_port = 51999;
    a.ensure(&plan).unwrap();
    left.must_ping("10.77.0.2");
    assert_eq!(b.show(&right, "endpoints"), "192.0.2.1:51999");
    a.set(peer(b.key.public_key(), "[fd00:db8::2]:51820", &["10.77.0.2/32", "fd77::2/128"]));
    left.must_ping("10.77.0.2");
    assert_eq!(b.show(&right, "endpoints"), "[fd00:db8::1]:51999");
}

#[test]
fn we_follow_wireguard_go_to_another_port_and_address() {
    let (left, right, a, b) = ours_and_theirs();
    b.add_peer(&right, &a.public(), &["endpoint", "192.0.2.1:51820"]);
    a.set(peer(b.key.public_key(), "192.0.2.2:51820", &["10.77.0.2/32", "fd77::2/128"]));
    right.must_ping("10.77.0.1");
    b.set(&right, &["listen-port", "51777"], "");
    right.must_ping("10.77.0.1");
    assert_eq!(a.peer(&b.key.public_key()).endpoint, Some(endpoint("192.0.2.2:51777")));
    b.set(&right, &["peer", &a.public().to_base64(), "endpoint", "[fd00:db8::1]:51820"], "");
    right.must_ping("10.77.0.1");
    assert_eq!(a.peer(&b.key.public_key()).endpoint, Some(endpoint("[fd00:db8::2]:51777")));
    left.must_ping("10.77.0.2");
}

#[test]
fn a_peer_removed_and_added_again_connects_again() {
    let (left, right, a, b) = ours_and_theirs();
    b.add_peer(&right, &a.public(), &[]);
    let plan = peer(b.key.public_key(), "192.0.2.2:51820", &["10.77.0.2/32", "fd77::2/128"]);
    a.set(plan.clone());
    left.must_ping("10.77.0.2");
    a.change(vec![PeerChange::Remove(b.key.public_key())]).unwrap();
    assert!(!left.pings("10.77.0.2"));
    a.set(plan);
    left.must_ping("10.77.0.2");
}

/// Slow on purpose: the session of two minutes' age is the thing to see.
#[test]
fn sessions_are_renewed_after_two_minutes_in_both_directions_without_loss() {
    let (left, right, a, b) = ours_and_theirs();
    let (left2, right2, a2, b2) = ours_and_theirs();
    b.add_peer(&right, &a.public(), &[]);
    a.set(peer(b.key.public_key(), "192.0.2.2:51820", &["10.77.0.2/32"]));
    left.must_ping("10.77.0.2");
    a2.set(peer(b2.key.public_key(), "", &["10.77.0.2/32"]));
    b2.add_peer(&right2, &a2.public(), &["endpoint", "192.0.2.1:51820"]);
    right2.must_ping("10.77.0.1");
    let firsts = (a.peer(&b.key.public_key()).last_handshake, a2.peer(&b2.key.public_key()).last_handshake);
    let stream = ["-i", "0.1", "-c", "1300", "-W", "2"];
    let pings = [
        left.start("ping", &[&stream[..], &["10.77.0.2"]].concat()),
        right2.start("ping", &[&stream[..], &["10.77.0.1"]].concat()),
    ];
    for ping in pings {
        let text = ping.output();
        assert!(text.contains("1300 packets transmitted, 1300 received"), "{text}");
    }
    let seconds = (a.peer(&b.key.public_key()).last_handshake, a2.peer(&b2.key.public_key()).last_handshake);
    for (first, second) in [(firsts.0, seconds.0), (firsts.1, seconds.1)] {
        let between = second.unwrap().duration_since(first.unwrap()).unwrap();
        assert!(between >= Duration::from_secs(115), "renewed after {between:?}");
    }
    drop(left2);
}
