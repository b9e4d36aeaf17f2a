//! The random sequences of the engine's tests, fewer and shorter, with the real daemon: clients that ask at the same time,
//! kill -9 in the middle of a request, containers that die, links that are deleted. Replies and records have to be those
//! of the model, and nothing may be left in the end.
//!
//! ```text
//!   4 containers ── host
//! ```

use std::{
    collections::BTreeMap,
    env, fs, thread,
    time::{Duration, Instant},
};

use overlayd_core::{
    desired::Desired,
    protocol::{AttachHandle, Request, Response},
    store::Store,
};
use overlayd_testkit::{
    contract::HostFacts,
    lab::{self, Host, LabClient, Namespace, Underlay},
    model::{CONTAINERS, ModelRequest, ModelStep, ModelView, PossibleStates, steps},
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{container, until};

/// Sequences in a usual run, and the time after which no further one is begun: an emulated kernel takes ten times as long.
const SEQUENCES: usize = 20;
const TIME: Duration = Duration::from_secs(90);
/// The seed of a usual run.
const USUAL: u64 = 5;
/// A point of an operation is so long after its beginning, more or less.
const POINT: Duration = Duration::from_micros(400);

#[test]
fn the_real_daemon_is_as_the_model_says() {
    if !lab::available() {
        return;
    }
    let seed = env::var("OVERLAYD_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(USUAL);
    println!("OVERLAYD_TEST_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&u64::to_le_bytes(seed));
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let mut lab = crate::lab(1, &Underlay::default());
    let start = Instant::now();
    let (mut sequences, mut count) = (0, 0);
    while sequences < SEQUENCES && start.elapsed() < TIME {
        let steps = steps().new_tree(&mut runner).expect("a sequence").current();
        play(&mut lab.hosts[0], &steps);
        (sequences, count) = (sequences + 1, count + steps.len());
    }
    println!("{sequences} sequences, {count} steps");
}

fn play(host: &mut Host, steps: &[ModelStep]) {
    let mut world = World::new(host);
    for (number, step) in steps.iter().enumerate() {
        if let Err(reason) = world.take(step) {
            panic!("step {number} of {steps:#?}\n{reason}");
        }
    }
    world.end();
}

/// The host, its containers by their names, and what the node may be according to its replies.
struct World<'a> {
    host: &'a mut Host,
    containers: BTreeMap<u32, Namespace>,
    /// Processes that have ended, for those that have no other.
    gone: BTreeMap<u32, u32>,
    belief: PossibleStates,
    before: HostFacts,
}

impl<'a> World<'a> {
    fn new(host: &'a mut Host) -> Self {
        let data = host.data_dir();
        if data.exists() {
            fs::remove_dir_all(&data).expect("the data of the daemon before is removed");
        }
        fs::create_dir_all(&data).expect("a data directory");
        // There is no clock to move.
        fs::write(data.join("overlayd.toml"), "cool_down_secs = 0\n").expect("a configuration");
        let before = host.facts();
        host.start();
        let containers = CONTAINERS.map(|name| (name, container())).collect();
        Self { host, containers, gone: BTreeMap::new(), belief: PossibleStates::new(0, 0), before }
    }

    fn take(&mut self, step: &ModelStep) -> Result<(), String> {
        match step {
            ModelStep::Together(ops, _) => return self.ask(ops),
            ModelStep::Crash(op, point) => return self.crash(op, *point),
            ModelStep::Ends(name) => self.ends(*name),
            ModelStep::Starts(name) => {
                self.ends(*name);
                self.containers.insert(*name, container());
                self.belief.starts(*name);
            }
            ModelStep::DeviceVanishes => {
                if let Some(device) = self.host.client().status().interface {
                    self.vanishes(&device);
                }
            }
            ModelStep::NetworkVanishes(service) => {
                let services = self.host.client().status().services;
                let bridge = services.into_iter().find(|known| known.service == *service).map(|known| known.name);
                if let Some(bridge) = bridge {
                    self.vanishes(&bridge);
                }
            }
            // The daemon looks after drift by itself.
            ModelStep::Wait(_) | ModelStep::Pass => {}
        }
        Ok(())
    }

    /// The daemon notices by itself that a container has ended.
    fn ends(&mut self, name: u32) {
        let Some(container) = self.containers.remove(&name) else { return };
        self.gone.insert(name, container.pid());
        drop(container);
        self.belief.ends(name);
        self.belief.settle();
        let expected = self.belief.memberships();
        until("who has ended is detached, and the service it leaves is gone", || {
            expected.contains(&self.memberships())
        });
    }

    fn memberships(&self) -> BTreeMap<String, usize> {
        let services = self.host.client().status().services;
        services.into_iter().map(|service| (service.service, service.attachments as usize)).collect()
    }

    /// The link is deleted by hand, and the daemon puts it back.
    fn vanishes(&self, link: &str) {
        // One that the kernel has replaced in between is as good as deleted.
        drop(self.host.namespace.try_run(&["ip", "link", "delete", link]));
        until(&format!("{link}, which was deleted, is back, or belongs to no container any more"), || {
            let services = self.host.client().status().services;
            let is_wanted = !link.ends_with("-b") || services.iter().any(|service| service.name == link);
            !is_wanted || self.host.namespace.try_run(&["ip", "link", "show", link]).is_ok()
        });
    }

    fn ask(&mut self, ops: &[ModelRequest]) -> Result<(), String> {
        let allocated = self.belief.allocated();
        let asking = |op: &ModelRequest| {
            let (mut client, request) = (self.host.client(), self.request(op, &allocated));
            move || client.call(request).expect("an answer")
        };
        let replies: Vec<Response> = thread::scope(|scope| {
            let asked: Vec<_> = ops.iter().map(asking).map(|asking| scope.spawn(asking)).collect();
            asked.into_iter().map(|asked| asked.join().expect("a client")).collect()
        });
        self.belief.answered(ops, &allocated, &replies)
    }

    /// The daemon is killed some time after the request came; the next one has on record what was there at some moment of it,
    /// and answers the repeated request.
    fn crash(&mut self, op: &ModelRequest, point: usize) -> Result<(), String> {
        let allocated = self.belief.allocated();
        let request = self.request(op, &allocated);
        let mut client = self.host.client();
        let asked = thread::spawn({
            let request = request.clone();
            move || client.call(request).ok()
        });
        thread::sleep(POINT * u32::try_from(point).unwrap_or(0));
        self.host.kill();
        let reply = asked.join().expect("a client");
        self.host.start();
        assert!(self.host.terminate().success());
        self.belief.crashed(op, &allocated, reply.as_ref(), &self.on_record())?;
        let mut client = self.host.start();
        let reply = ask_again(&mut client, &request);
        self.belief.repeated(op, &allocated, &reply)
    }

    /// The request, about the processes that the names stand for.
    fn request(&self, op: &ModelRequest, allocated: &[std::net::IpAddr]) -> Request {
        let mut request = op.request(allocated);
        let handle = match &mut request {
            Request::AttachContainer(attach) => Some(&mut attach.handle),
            Request::DetachContainer { handle } | Request::PublishPorts { handle, .. } => Some(handle),
            _ => None,
        };
        if let Some(AttachHandle::LinuxPid { pid }) = handle {
            let runs = self.containers.get(pid).map(Namespace::pid);
            *pid = runs.or_else(|| self.gone.get(pid).copied()).unwrap_or(*pid);
        }
        request
    }

    /// What is on record. No daemon may run.
    fn on_record(&self) -> ModelView {
        let (_, records) = Store::open(&self.host.data_dir().join("overlayd/state.redb")).expect("a store");
        let name = |pid| self.containers.iter().find(|(_, container)| container.pid() == pid).map(|(name, _)| *name);
        ModelView::of(&Desired::load(records), name)
    }

    fn end(mut self) {
        assert!(self.host.terminate().success());
        // A start looks after drift.
        self.host.start();
        assert!(self.host.terminate().success());
        self.belief.settle();
        let found = self.on_record();
        self.belief.holds(&found).unwrap_or_else(|reason| panic!("at the end, {reason}"));
        self.host.start().ok(Request::Shutdown);
        assert!(self.host.wait().success());
        self.host.comes_back_to(&self.before);
    }
}

/// Asks as an orchestrator does that got no answer the first time.
fn ask_again(client: &mut LabClient, request: &Request) -> Response {
    let reply = client.call(request.clone()).expect("an answer");
    match (request, &reply) {
        // The key went with the daemon that made it, so the edge is made anew.
        (Request::MintEdgePeer { name, .. }, Response::Err { message, .. }) if message.contains("already minted") => {
            client.ok(Request::RevokeEdgePeer { name: name.clone() });
            client.call(request.clone()).expect("an answer")
        }
        _ => reply,
    }
}
