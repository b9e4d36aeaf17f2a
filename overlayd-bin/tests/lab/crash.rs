//! The daemon is killed at a random moment while containers are attached, and started again.
//!
//! ```text
//!   16 containers ── web bridge ── host 0      4 clients attach, then kill -9, then the orchestrator repeats itself
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Mutex,
    thread,
    time::{Duration, SystemTime},
};

use overlayd_core::protocol::{OverlayMode, Request, Response};
use overlayd_testkit::lab::{self, Host, LabCluster, Namespace, Underlay, probe::pings};

use crate::container;

const ROUNDS: usize = 6;
const CONTAINERS: usize = 16;
const CLIENTS: usize = 4;

#[test]
fn no_address_is_handed_out_twice_after_kill_9() {
    if !lab::available() {
        return;
    }
    let mut random = Random::seeded();
    let mut lab = crate::lab(1, &Underlay::default());
    let host = &mut lab.hosts[0];
    host.start();
    set_up(host);
    let containers: Vec<Namespace> = (0..CONTAINERS).map(|_| container()).collect();
    for round in 0..ROUNDS {
        let moment = Duration::from_micros(random.below(120_000));
        let answered = attach_until_killed(host, &containers, moment);
        host.start();
        set_up(host);
        let now = attach_again(host, &containers);
        println!("round {round}: killed after {moment:?}, {} of {CONTAINERS} were answered", answered.len());
        assert_eq!(now.values().collect::<BTreeSet<_>>().len(), CONTAINERS, "an address was handed out twice: {now:?}");
        for (pid, ip) in answered {
            assert_eq!(now[&pid], ip, "the container of PID {pid} was told another address before");
        }
        let gateway = gateway(host);
        for container in &containers {
            assert!(pings(container, gateway), "PID {} does not reach {gateway}", container.pid());
        }
        let mut client = host.client();
        containers.iter().take(CONTAINERS / 2).for_each(|container| client.detach(container.pid()));
    }
}

/// What an orchestrator repeats whenever the daemon comes back.
fn set_up(host: &Host) {
    let mut client = host.client();
    client.ok(Request::SetLocalNodeId { node_id: 0 });
    client.ask(LabCluster::V4.setup(0));
    client.ask(Request::SetupServiceOverlay { service: "web".into(), mode: OverlayMode::Auto });
}

fn gateway(host: &Host) -> IpAddr {
    let block: ipnet::IpNet =
        host.client().status().services[0].subnet.as_deref().expect("a subnet").parse().expect("a block");
    block.hosts().next().expect("a block has hosts")
}

/// Attaches all containers by several clients, kills the daemon while they run, and returns what was answered before.
fn attach_until_killed(host: &mut Host, containers: &[Namespace], moment: Duration) -> BTreeMap<u32, IpAddr> {
    let answered = Mutex::new(BTreeMap::new());
    let clients: Vec<lab::LabClient> = (0..CLIENTS).map(|_| host.client()).collect();
    thread::scope(|scope| {
        for (number, mut client) in clients.into_iter().enumerate() {
            let answered = &answered;
            scope.spawn(move || {
                for container in containers.iter().skip(number).step_by(CLIENTS) {
                    // The connection breaks when the daemon is killed.
                    let Ok(reply) = client.call(lab::attach_request(container.pid(), "web")) else { return };
                    let Response::Attached(attached) = reply else { panic!("attach was answered {reply:?}") };
                    answered.lock().expect("no client panicked").insert(container.pid(), attached.ip);
                }
            });
        }
        // The moment is what the test is about; there is nothing to wait for.
        thread::sleep(moment);
        host.kill();
    });
    answered.into_inner().expect("no client panicked")
}

fn attach_again(host: &Host, containers: &[Namespace]) -> BTreeMap<u32, IpAddr> {
    let mut client = host.client();
    containers.iter().map(|container| (container.pid(), client.attach(container.pid(), "web"))).collect()
}

/// A small generator (xorshift64, Marsaglia 2003) whose seed is printed; `OVERLAYD_TEST_SEED` repeats a run.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
        let given = std::env::var("OVERLAYD_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or(now.as_nanos() as u64 | 1);
        println!("OVERLAYD_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
