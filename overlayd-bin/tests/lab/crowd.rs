//! A hundred containers come and go at once on one host.
//!
//! ```text
//!   50 containers ── web bridge ┐
//!                               ├── host 0      8 clients attach and detach, one asks for `status` all the while
//!   50 containers ── db bridge ─┘
//! ```

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use overlayd_testkit::{
    contract::HostFacts,
    lab::{self, Host, LabCluster, Namespace, Underlay, probe::pings},
};

use crate::container;

const CONTAINERS: usize = 100;
const CLIENTS: usize = 8;

#[test]
fn a_hundred_containers_attach_and_detach_by_eight_clients() {
    if !lab::available() {
        return;
    }
    let mut lab = crate::lab(1, &Underlay::default());
    let node = LabCluster::V4.raise(&mut lab.hosts[0].start(), 0, &["web", "db"], "192.0.2.1".parse().expect("it is"));
    let host = &lab.hosts[0];
    // A bridge that once had a member has another route in the kernel's own table.
    for service in ["web", "db"] {
        let first = container();
        host.client().attach(first.pid(), service);
        host.client().detach(first.pid());
    }
    let before = settled(host);
    let containers: Vec<Namespace> = (0..CONTAINERS).map(|_| container()).collect();
    let asked = while_status_is_asked(host, || come_and_go(host, &containers, &before));
    assert!(asked.len() > CLIENTS, "status was answered only {} times in that time", asked.len());
    let (median, worst) = (asked[asked.len() / 2], asked[asked.len() - 1]);
    println!("status was answered {} times, median {median:?}, worst {worst:?}", asked.len());
    let status = host.client().status();
    assert_eq!(status.services.iter().map(|service| service.attachments).sum::<u32>(), 0);
    host.comes_back_to(&before);
    assert_eq!(node.ranges.len(), 3);
}

/// What is on the host once the links of the first containers are gone and both bridges have noticed.
fn settled(host: &Host) -> HostFacts {
    host.wait_until(|facts| {
        let having = |word: &str| facts.iter().filter(|fact| fact.contains(word)).count();
        (having("veth-"), having("NO-CARRIER")) == (0, 2)
    })
}

fn come_and_go(host: &Host, containers: &[Namespace], before: &HostFacts) {
    let addresses: Vec<IpAddr> =
        in_parallel(host, containers, |client, number, container| client.attach(container.pid(), service(number)));
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), CONTAINERS, "every container has its own address");
    assert_ne!(&host.facts(), before);
    let gateways: Vec<IpAddr> = host.client().status().services.iter().map(gateway).collect();
    for container in containers {
        let reached = gateways.iter().filter(|gateway| pings(container, **gateway)).count();
        assert_eq!(reached, gateways.len(), "the container reaches its own gateway and the other's");
    }
    in_parallel(host, containers, |client, _, container| client.detach(container.pid()));
}

fn service(number: usize) -> &'static str {
    if number.is_multiple_of(2) { "web" } else { "db" }
}

fn gateway(service: &overlayd_core::protocol::ServiceStatus) -> IpAddr {
    let block: ipnet::IpNet = service.subnet.as_deref().expect("a subnet").parse().expect("a block");
    block.hosts().next().expect("a block has hosts")
}

/// Deals the containers out to the clients and returns the results in the order of the containers.
fn in_parallel<T: Send>(
    host: &Host,
    containers: &[Namespace],
    work: impl Fn(&mut lab::LabClient, usize, &Namespace) -> T + Sync,
) -> Vec<T> {
    let mut results: Vec<(usize, T)> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|first| {
                let work = &work;
                scope.spawn(move || {
                    let mut client = host.client();
                    let mine = containers.iter().enumerate().skip(first).step_by(CLIENTS);
                    mine.map(|(number, container)| (number, work(&mut client, number, container))).collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("the client ends well")).collect()
    });
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Asks for `status` while the work is done, and returns how long each answer took, in order of length.
fn while_status_is_asked(host: &Host, work: impl FnOnce()) -> Vec<Duration> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut client = host.client();
            let mut took = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                client.status();
                took.push(start.elapsed());
            }
            took.sort_unstable();
            took
        });
        // The asking thread must end also when the work panics.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        let took = asking.join().expect("status is answered");
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        took
    })
}
