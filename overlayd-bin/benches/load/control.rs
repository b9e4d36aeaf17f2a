//! The control plane: answers under load, and a node with many peers.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use overlayd_core::{
    keys::PrivateKey,
    protocol::{Hello, PeerScope, PeerSpec, Request},
};

use overlayd_testkit::lab::LabClient;

use crate::{
    Args,
    attach::{attach_request, detach_request},
    floor::Floor,
    nat,
    node::{Node, containers, deal, timed},
    pipeline,
    stats::{Report, Timed},
};

/// How long idle CPU time is watched.
const IDLE: Duration = Duration::from_secs(20);
/// Calls of a closed loop.
const CALLS: usize = 2000;

pub(crate) fn measure(args: &Args, report: &mut Report) {
    let mut node = Node::up(args);
    let socket = node.host().socket();
    let asked = vec![Request::Status; 100_000];
    let took = pipeline::run(&socket, &asked);
    report.figure("status, pipelined on one connection", asked.len() as f64 / took.as_secs_f64(), "/s");
    report.timed("status", 1, &status(&node, CALLS));
    nat::measure(args, report);
    crowd(&mut node, args, report);
    few_peers(&node, report);
    many_peers(&node, args, report);
}

/// Status on a connection of its own while clients attach and detach.
fn crowd(node: &mut Node, args: &Args, report: &mut Report) {
    let guests = containers(args.containers);
    let services = node.services_for(guests.len());
    let node = &*node;
    let requests = |there: bool| -> Vec<Request> {
        let request = |(guest, service)| if there { attach_request(guest, service) } else { detach_request(guest) };
        guests.iter().zip(&services).map(|(guest, service)| request((guest, service))).collect()
    };
    let come_and_go = || {
        for round in 0..6 {
            let work = |client: &mut LabClient, request: &Request| drop(client.ask(request.clone()));
            deal(args.clients, &requests(round % 2 == 0), || node.client(), work);
        }
    };
    let asked = asked_during(node, come_and_go, |client| drop(client.status()));
    report.timed("status while clients attach and detach", 1, &asked);
    let (floor, guests) = (Floor::new(), containers(args.containers));
    let by_hand = || {
        for _ in 0..3 {
            floor.attach(args.clients, &guests);
            floor.detach(args.clients, &guests);
        }
    };
    let asked = asked_during(node, by_hand, |client| drop(client.status()));
    report.timed("floor: status while raw netlink does the same", 1, &asked);
}

/// How long a question takes, asked now and then on a connection of its own for as long as others work.
fn asked_during(node: &Node, work: impl FnOnce(), ask: impl Fn(&mut LabClient) + Sync) -> Timed {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut client, mut took, begun) = (node.client(), Vec::new(), Instant::now());
            while !done.load(Ordering::Relaxed) {
                took.push(timed(|| ask(&mut client)));
                // Someone who asks without a pause would be most of the load.
                thread::sleep(Duration::from_micros(500));
            }
            Timed::new(took, begun.elapsed())
        });
        work();
        done.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    })
}

fn few_peers(node: &Node, report: &mut Report) {
    let keys: Vec<String> = (0..10).map(|_| key()).collect();
    let added: Vec<Request> = keys.iter().enumerate().map(|(number, key)| add_peer(key, number)).collect();
    pipeline::run(&node.host().socket(), &added);
    report.timed("one AllowedIP change among 10 peers", 1, &allowed_ips(node, &keys[0]));
    let removed: Vec<Request> = keys.iter().map(|key| remove_peer(key)).collect();
    pipeline::run(&node.host().socket(), &removed);
}

fn many_peers(node: &Node, args: &Args, report: &mut Report) {
    let (socket, many) = (node.host().socket(), args.peers);
    let keys: Vec<String> = (0..many).map(|_| key()).collect();
    let added: Vec<Request> = keys.iter().enumerate().map(|(number, key)| add_peer(key, number)).collect();
    report.figure("resident without peers", node.resident(), "MB");
    report.figure("many peers added, pipelined", pipeline::run(&socket, &added).as_secs_f64(), "s");
    report.figure("resident with many peers", node.resident(), "MB");
    report.timed("status with many peers", 1, &status(node, 100));
    let all = || drop(status(node, 100));
    let asked = asked_during(node, all, |client| drop(client.ask(Request::Hello(Hello::default()))));
    report.timed("hello while another asks for many peers", 1, &asked);
    report.figure("resident after these", node.resident(), "MB");
    report.timed("one AllowedIP change among many peers", 1, &allowed_ips(node, &keys[0]));
    let before = node.cpu();
    thread::sleep(IDLE);
    let used = (node.cpu() - before).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    report.figure("idle CPU with many silent peers", used, "% of a core");
    let removed: Vec<Request> = keys.iter().map(|key| remove_peer(key)).collect();
    report.figure("many peers removed, pipelined", pipeline::run(&socket, &removed).as_secs_f64(), "s");
}

fn status(node: &Node, calls: usize) -> Timed {
    deal(1, &vec![(); calls], || node.client(), |client, ()| drop(client.status()))
}

/// Ranges that come and go at one peer.
fn allowed_ips(node: &Node, pubkey: &str) -> Timed {
    let change = |number: usize| {
        let (pubkey, cidr, scope) = (pubkey.to_owned(), "172.16.0.0/24".to_owned(), PeerScope::Global);
        match number % 2 {
            0 => Request::AddAllowedIp { pubkey, cidr, scope },
            _ => Request::RemoveAllowedIp { pubkey, cidr, scope },
        }
    };
    let jobs: Vec<Request> = (0..400).map(change).collect();
    deal(1, &jobs, || node.client(), |client, request| client.ok(request.clone()))
}

fn key() -> String {
    PrivateKey::generate().public_key().to_base64()
}

fn add_peer(public_key: &str, number: usize) -> Request {
    let [_, high, middle, low] = (number as u32).to_be_bytes();
    let peer = PeerSpec {
        public_key: public_key.into(),
        endpoint: format!("127.{high}.{middle}.{low}:9"),
        allowed_ips: format!("10.{}.{middle}.{low}/32", 200 + high),
        persistent_keepalive_secs: 0,
        candidates: Vec::new(),
    };
    Request::AddPeer { peer, scope: PeerScope::Global }
}

fn remove_peer(public_key: &str) -> Request {
    Request::RemovePeer { pubkey: public_key.into(), scope: PeerScope::Global }
}
