//! One backend is as good as the other: the same requests lead to the same view of the device, and the same packets
//! arrive or are dropped.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use overlayd_core::{
    contract::{DeviceMtu, DevicePlan, PeerChange, PeerPlan, Result},
    keys::{PresharedKey, PrivateKey, PublicKey},
};

use crate::hosts::{Host, Kind, cable, peer};

/// The node under test; the remote has every address that the corpus sends from, and this one always.
const US: &str = "10.77.0.1";
const HOME: &str = "10.77.0.2";
const SOURCES: [&str; 4] = [HOME, "10.80.2.1", "10.80.1.1", "10.99.0.9"];
const DESTINATIONS: [&str; 4] = [HOME, "10.80.2.1", "10.80.1.1", "10.81.0.1"];
/// What peers of a random trace hold and lose.
const RANGES: [&str; 8] = [
    "10.80.0.0/16",
    "10.80.1.0/24",
    "10.80.2.0/24",
    "10.80.1.1/32",
    "10.80.0.0/14",
    "10.99.0.0/16",
    "0.0.0.0/0",
    "fd77:3::/64",
];
const RANDOM_REQUESTS: usize = 12;

/// Seeds of the keys: the node, the remote, and peers that never speak.
const NODE: u8 = 1;
const REMOTE: u8 = 2;
const OTHERS: [u8; 3] = [3, 4, 5];

/// A request, and which way packets of the corpus go afterwards.
#[derive(Clone)]
enum Request {
    Device(DevicePlan),
    Peers(Vec<PeerChange>),
}

#[test]
fn the_same_trace_of_requests_leads_to_the_same_status_and_the_same_packets() {
    let mut random = Random::seeded();
    for trace in [written(), random.trace()] {
        let (kernel, userspace) = (run(Kind::Kernel, &trace), run(Kind::Userspace, &trace));
        assert_eq!(kernel.len(), userspace.len());
        for (step, (kernel, userspace)) in kernel.iter().zip(&userspace).enumerate() {
            assert_eq!(kernel, userspace, "after request {step}");
        }
    }
}

/// Every kind of change, and every refusal.
fn written() -> Vec<Request> {
    let set = |seed: u8, ranges: &[&str]| peer(key(seed), "", ranges);
    let known = |ranges: &[&str]| PeerChange::Set(peer(key(REMOTE), "192.0.2.2:51820", ranges));
    let silent = |ranges: &[&str]| PeerChange::Set(peer(key(3), "192.0.2.2:51999", ranges));
    let psk = Some(PresharedKey::from_bytes([9; 32]));
    let changes = vec![
        vec![known(&["10.77.0.2/32", "10.80.0.0/16"])],
        vec![silent(&["10.80.1.0/24", "fd77:3::/64"]), PeerChange::Set(set(4, &[]))],
        vec![PeerChange::Set(PeerPlan {
            keepalive: NonZeroU16::new(25),
            ..set(REMOTE, &["10.77.0.2/32", "10.80.1.0/24"])
        })],
        vec![PeerChange::Set(PeerPlan { preshared_key: psk, ..set(3, &["10.77.0.9/16"]) })],
        vec![PeerChange::Remove(key(REMOTE)), known(&["10.77.0.2/32", "10.80.0.0/16"])],
        vec![PeerChange::Set(set(4, &["0.0.0.0/0", "::/0"])), PeerChange::Remove(key(3)), PeerChange::Remove(key(9))],
        vec![PeerChange::Remove(key(4)), PeerChange::Set(set(NODE, &["10.82.0.0/16"]))],
        vec![PeerChange::Set(peer(key(5), "192.0.2.2:0", &["10.82.0.0/16"]))],
        vec![PeerChange::Set(peer(PublicKey::from_bytes([0; 32]), "", &[]))],
    ];
    let other = DevicePlan {
        addresses: vec!["10.77.0.1/24".parse().unwrap(), "10.77.5.1/24".parse().unwrap()],
        mtu: DeviceMtu::Bytes(1300),
        listen_port: 51821,
        ..plan()
    };
    // Each port once: sockets of this process may live on for a moment in a child that another test starts.
    let another = DevicePlan { listen_port: 51822, ..plan() };
    let unusable = DevicePlan { mtu: DeviceMtu::Bytes(60), ..plan() };
    let mut trace: Vec<Request> = changes.into_iter().map(Request::Peers).collect();
    trace.extend([Request::Device(unusable), Request::Device(other), Request::Device(another)]);
    trace
}

fn plan() -> DevicePlan {
    DevicePlan {
        name: crate::hosts::device(),
        private_key: PrivateKey::from_bytes([NODE; 32]),
        listen_port: 51820,
        addresses: vec!["10.77.0.1/32".parse().unwrap(), "fd77::1/64".parse().unwrap()],
        routes: vec!["10.77.0.0/16".parse().unwrap(), "10.80.0.0/12".parse().unwrap()],
        mtu: DeviceMtu::Bytes(1420),
    }
}

fn key(seed: u8) -> PublicKey {
    PrivateKey::from_bytes([seed; 32]).public_key()
}

/// What is to be seen after each request, and what becomes of every packet of the corpus.
fn run(kind: Kind, trace: &[Request]) -> Vec<String> {
    let (us, remote) = two_hosts(kind);
    let silent = remote.inside(|| UdpSocket::bind("192.0.2.2:51999").unwrap());
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut owners = Owners::default();
    let mut seen = vec![view(&us, us.ensure(&plan()).map(drop))];
    let start = Request::Peers(vec![PeerChange::Set(peer(key(REMOTE), "192.0.2.2:51820", &["10.77.0.2/32"]))]);
    for request in [&start].into_iter().chain(trace) {
        let outcome = match request {
            Request::Device(plan) => us.ensure(plan).map(drop),
            Request::Peers(changes) => us.change(changes.clone()),
        };
        if let (Ok(()), Request::Peers(changes)) = (&outcome, request) {
            owners.note(changes);
        }
        us.must_ping(HOME);
        let packets: Vec<String> = incoming(&us, &remote).into_iter().chain(outgoing(&us, &remote)).collect();
        assert_eq!(packets, owners.verdicts(), "{kind:?}: not as the ranges say");
        seen.push(format!("{}\n{}", view(&us, outcome), packets.join("\n")));
    }
    seen.push(us.must("ip -4 route show proto 111"));
    if trace.iter().any(|request| matches!(request, Request::Device(_))) {
        let mut initiation = [0; 2048];
        let spoken_to = overlayd_testkit::uninterrupted(|| silent.recv(&mut initiation))
            .is_ok_and(|len| len == 148 && initiation[0] == 1);
        assert!(spoken_to, "{kind:?}: the owner of 10.80.1.0/24 was not spoken to");
        // The device takes the key of a peer, which goes.
        let private_key = PrivateKey::from_bytes([REMOTE; 32]);
        let taken = DevicePlan { private_key, listen_port: 51823, ..plan() };
        seen.push(view(&us, us.ensure(&taken).map(drop)));
    }
    seen
}

fn two_hosts(kind: Kind) -> (Host, Host) {
    let (mut us, mut remote) = cable(kind, Kind::Kernel);
    (us.key, remote.key) = (PrivateKey::from_bytes([NODE; 32]), PrivateKey::from_bytes([REMOTE; 32]));
    let routes = vec!["10.77.0.1/32".parse().unwrap()];
    // Its inner packets may be larger than ours; the cable carries what the two sizes differ in.
    remote.ensure(&DevicePlan { routes, mtu: DeviceMtu::Bytes(1480), ..remote.plan(&[]) }).unwrap();
    remote.set(peer(us.public(), "192.0.2.1:51820", &["0.0.0.0/0"]));
    for source in SOURCES {
        remote.must(&format!("ip addr add {source}/32 dev lo"));
    }
    (us, remote)
}

/// The outcome and the device without what depends on time: counters and moments.
fn view(host: &Host, outcome: Result<()>) -> String {
    let mut seen = host.status();
    seen.dropped.clear();
    seen.addresses.sort();
    for peer in Arc::make_mut(&mut seen.peers) {
        peer.allowed_ips.sort();
        (peer.rx_bytes, peer.tx_bytes) = (peer.rx_bytes.min(1), 0);
        peer.last_handshake = peer.last_handshake.map(|_| SystemTime::UNIX_EPOCH);
    }
    format!("{:?} {seen:#?}", outcome.map_err(|error| error.to_string()))
}

/// Who holds which range, by the rules of WireGuard: the longest prefix wins, and a range has one owner.
#[derive(Default)]
struct Owners(BTreeMap<IpNet, PublicKey>);

impl Owners {
    fn note(&mut self, changes: &[PeerChange]) {
        self.0.entry("10.77.0.2/32".parse().unwrap()).or_insert(key(REMOTE));
        for change in changes {
            let (peer, ranges) = match change {
                PeerChange::Set(plan) => (plan.public_key, plan.allowed_ips.as_slice()),
                PeerChange::Remove(key) => (*key, [].as_slice()),
            };
            self.0.retain(|_, owner| *owner != peer);
            self.0.extend(ranges.iter().map(|range| (range.trunc(), peer)));
        }
    }

    fn is_remotes(&self, address: &str) -> bool {
        let address: IpAddr = address.parse().unwrap();
        let holding = self.0.iter().filter(|(range, _)| range.contains(&address));
        holding.max_by_key(|(range, _)| range.prefix_len()).is_some_and(|(_, owner)| *owner == key(REMOTE))
    }

    /// What must become of the corpus.
    fn verdicts(&self) -> Vec<String> {
        let verdict = |address: &str| if self.is_remotes(address) { "delivered" } else { "dropped" };
        let sources = SOURCES.iter().map(|source| format!("in: {source}, 100 bytes: {}", verdict(source)));
        let large = format!("in: {HOME}, 1432 bytes: delivered");
        let sent = DESTINATIONS.iter().map(|to| {
            // The remote has no such address: the tunnel carries what no socket there takes.
            let verdict = if *to == "10.81.0.1" { "dropped" } else { verdict(to) };
            format!("out: {to}, 100 bytes: {verdict}")
        });
        sources.chain([large]).chain(sent).chain([format!("out: {HOME}, 1432 bytes: too big")]).collect()
    }
}

fn incoming(us: &Host, remote: &Host) -> Vec<String> {
    let receiver = us.inside(|| UdpSocket::bind("0.0.0.0:7000").unwrap());
    let corpus: Vec<(&str, usize)> = SOURCES.iter().map(|source| (*source, 100)).chain([(HOME, 1432)]).collect();
    for (source, len) in &corpus {
        send(remote, source, US, *len);
    }
    send(remote, HOME, US, END);
    let arrived = drain(&receiver, |from| from.ip().to_string());
    verdicts("in", &corpus, &arrived)
}

fn outgoing(us: &Host, remote: &Host) -> Vec<String> {
    let receivers = DESTINATIONS[..3]
        .iter()
        .map(|&address| (address, remote.inside(move || UdpSocket::bind((address, 7000)).unwrap())))
        .collect::<Vec<_>>();
    let corpus = DESTINATIONS.map(|to| (to, 100));
    for (to, len) in corpus {
        send(us, US, to, len);
    }
    send(us, US, HOME, END);
    let mut arrived = drain(&receivers[0].1, |_| HOME.to_owned());
    for (address, receiver) in &receivers[1..] {
        receiver.set_nonblocking(true).unwrap();
        if receiver.recv(&mut [0; 2048]).is_ok() {
            arrived.push(((*address).to_owned(), 100));
        }
    }
    let mut seen = verdicts("out", &corpus, &arrived);
    let ping = us.run(&format!("ping -c 1 -W 1 -M do -s 1404 {HOME}"));
    let too_big = String::from_utf8_lossy(&ping.stderr).contains("message too long");
    seen.push(format!("out: {HOME}, 1432 bytes: {}", if too_big { "too big" } else { "sent" }));
    seen
}

/// Length of the packet that ends a corpus: packets of one tunnel arrive in order.
const END: usize = 40;

/// Sends one UDP packet of `len` bytes with its IPv4 header. An error of the host is a packet that is not sent.
fn send(host: &Host, from: &str, to: &str, len: usize) {
    let (from, to) = (format!("{from}:0"), format!("{to}:7000"));
    host.inside(move || {
        let sent = UdpSocket::bind(from).unwrap().send_to(&vec![0; len - 28], to);
        assert!(sent.is_ok() || sent.is_err_and(|error| error.raw_os_error().is_some()));
    });
}

/// What arrived before the end.
fn drain(receiver: &UdpSocket, name: impl Fn(SocketAddr) -> String) -> Vec<(String, usize)> {
    receiver.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut arrived = Vec::new();
    loop {
        let (len, from) =
            overlayd_testkit::uninterrupted(|| receiver.recv_from(&mut [0; 2048])).expect("the last packet arrives");
        if len + 28 == END {
            return arrived;
        }
        arrived.push((name(from), len + 28));
    }
}

fn verdicts(way: &str, corpus: &[(&str, usize)], arrived: &[(String, usize)]) -> Vec<String> {
    let arrives = |packet: &(&str, usize)| arrived.iter().any(|(name, len)| (name.as_str(), *len) == *packet);
    let verdict = |packet: &(&str, usize)| if arrives(packet) { "delivered" } else { "dropped" };
    corpus.iter().map(|packet| format!("{way}: {}, {} bytes: {}", packet.0, packet.1, verdict(packet))).collect()
}

/// A small generator (xorshift64, Marsaglia 2003) whose seed is printed; `OVERLAYD_TEST_SEED` repeats a run.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let given = std::env::var("OVERLAYD_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let seed = given.unwrap_or(now.as_nanos() as u64 | 1);
        println!("OVERLAYD_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    /// Peers that take ranges from each other, go and come back.
    fn trace(&mut self) -> Vec<Request> {
        (0..RANDOM_REQUESTS).map(|_| Request::Peers((0..=self.below(3)).map(|_| self.change()).collect())).collect()
    }

    fn change(&mut self) -> PeerChange {
        let ranges: Vec<&str> = RANGES.into_iter().filter(|_| self.below(3) == 0).collect();
        let other = OTHERS[self.below(OTHERS.len())];
        match self.below(5) {
            0 | 1 => PeerChange::Set(peer(key(REMOTE), "", &[&["10.77.0.2/32"], ranges.as_slice()].concat())),
            2 | 3 => PeerChange::Set(peer(key(other), "192.0.2.2:51999", &ranges)),
            _ => PeerChange::Remove(key(other)),
        }
    }
}
