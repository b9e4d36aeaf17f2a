//! Random sequences: clients that ask at the same time, crashes at any point, containers that come and go, and things
//! deleted behind the daemon's back, under a clock that the test moves. Every reply has to be one that the model gives in some
//! order of what was asked at once, and the records have to be the model's.

use std::{
    cell::Cell,
    env,
    net::IpAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use overlayd_core::{
    contract::{NetworkName, Target},
    crash::Plan,
    engine::Engine,
    names::LinkName,
    protocol::{Request, Response},
};
use overlayd_testkit::{
    fake::FakeMachine,
    model::{CONTAINERS, ModelRequest, ModelStep, ModelView, PossibleStates, steps},
};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};

use crate::{
    judge::{is_consistent, tears_down_to_nothing},
    script, turns,
};

/// Cases per run, shared by the threads, and the time after which no further one is begun.
const CASES: u32 = 2000;
const TIME: Duration = Duration::from_secs(300);
const THREADS: u32 = 2;
/// The seed of a usual run.
const USUAL: u64 = 37;
/// Seconds that an address rests.
const COOL_DOWN: u64 = 30;
/// Cases that are played twice.
const TWICE: u32 = 60;

#[test]
fn whatever_is_asked_in_whatever_order_the_node_is_as_the_model_says() {
    let seed = env::var("OVERLAYD_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(USUAL);
    println!("OVERLAYD_TEST_SEED={seed}");
    let (cases, steps) = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|number| scope.spawn(move || run(seed + u64::from(number)))).collect();
        let counts = workers.into_iter().map(|worker| match worker.join() {
            Ok(counts) => counts,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        counts.fold((0, 0), |(cases, steps), (c, s)| (cases + c, steps + s))
    });
    println!("{cases} cases, {steps} steps");
}

#[test]
fn a_sequence_is_answered_the_same_every_time() {
    let mut runner = runner(USUAL, TWICE);
    let outcome = runner.run(&steps(), |steps| {
        let [first, second] = [(); 2].map(|()| block_on(play(&steps)));
        prop_assert_eq!(first, second);
        Ok(())
    });
    outcome.unwrap();
}

fn runner(seed: u64, cases: u32) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Cases and steps that were played.
fn run(seed: u64) -> (usize, usize) {
    let (start, counts, failed) = (Instant::now(), Cell::new((0, 0)), Cell::new(false));
    let outcome = runner(seed, CASES / THREADS).run(&steps(), |steps| {
        // What has failed is made smaller, however long that takes.
        if start.elapsed() > TIME && !failed.get() {
            return Ok(());
        }
        let (cases, so_far) = counts.get();
        counts.set((cases + 1, so_far + steps.len()));
        block_on(play(&steps)).map(drop).map_err(|reason| {
            failed.set(true);
            TestCaseError::fail(reason)
        })
    });
    match outcome {
        Ok(()) => counts.get(),
        Err(TestError::Fail(reason, steps)) => {
            let steps: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
            panic!("OVERLAYD_TEST_SEED={seed}: {reason}\n{}", steps.join("\n"))
        }
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// What was answered: whether it was refused, and the address in it.
type Answered = Vec<(bool, Option<IpAddr>)>;

async fn play(steps: &[ModelStep]) -> Result<Answered, String> {
    let mut world = World::new().await;
    for (number, step) in steps.iter().enumerate() {
        world.take(step).await.map_err(|reason| format!("step {number}, {step:?}: {reason}"))?;
    }
    world.end().await
}

/// The node, and what it may be according to its replies.
struct World {
    machine: FakeMachine,
    engine: Option<Arc<Engine>>,
    belief: PossibleStates,
    answered: Answered,
}

impl World {
    async fn new() -> Self {
        let mut machine = FakeMachine::default();
        CONTAINERS.for_each(|pid| machine.attacher.start(&Target::Process(pid)));
        let belief = PossibleStates::new(machine.now(), COOL_DOWN);
        let engine = Some(machine.start().await);
        Self { machine, engine, belief, answered: Vec::new() }
    }

    async fn take(&mut self, step: &ModelStep) -> Result<(), String> {
        match step {
            ModelStep::Together(ops, turns) => self.ask(ops, *turns).await?,
            ModelStep::Crash(op, point) => self.crash(op, *point).await?,
            ModelStep::Ends(pid) => {
                self.machine.attacher.stop(&Target::Process(*pid));
                self.belief.ends(*pid);
            }
            ModelStep::Starts(pid) => {
                self.machine.attacher.start(&Target::Process(*pid));
                self.belief.starts(*pid);
            }
            ModelStep::DeviceVanishes => {
                self.machine.overlay.vanish(&LinkName::new("zl-atlas-n1-g").unwrap());
                self.pass().await;
            }
            ModelStep::NetworkVanishes(service) => {
                if let Some(network) = self.network_of(service).await {
                    self.machine.attacher.vanish(&network);
                }
                self.pass().await;
            }
            ModelStep::Wait(seconds) => {
                self.machine.pass(*seconds);
                self.belief.wait(*seconds);
            }
            ModelStep::Pass => self.pass().await,
        }
        Ok(())
    }

    async fn pass(&mut self) {
        self.engine().reconcile().await;
        self.belief.settle();
    }

    async fn network_of(&self, service: &str) -> Option<NetworkName> {
        let Response::Status(status) = self.engine().answer(Request::Status).await else { return None };
        let found = status.services.into_iter().find(|known| known.service == service);
        found.map(|known| NetworkName(known.name))
    }

    async fn ask(&mut self, ops: &[ModelRequest], turns: u64) -> Result<(), String> {
        let allocated = self.belief.allocated();
        let requests = ops.iter().map(|op| op.request(&allocated)).collect();
        let replies = turns::ask(self.engine(), requests, turns).await;
        self.note(&replies);
        self.belief.answered(ops, &allocated, &replies)
    }

    fn note(&mut self, replies: &[Response]) {
        let gist =
            |reply: &Response| (matches!(reply, Response::Err { .. }), overlayd_testkit::model::address_in(reply));
        self.answered.extend(replies.iter().map(gist));
    }

    /// The daemon ends during the operation; the next one has on record what was there at some moment of it, and answers the
    /// repeated request.
    async fn crash(&mut self, op: &ModelRequest, point: usize) -> Result<(), String> {
        let allocated = self.belief.allocated();
        let request = op.request(&allocated);
        let plan = Plan::at(point + 1);
        let reply = plan.run(self.engine().answer(request.clone())).await;
        self.stop().await;
        self.start().await;
        self.stop().await;
        let found = self.on_record();
        self.belief.crashed(op, &allocated, reply.as_ref(), &found)?;
        is_consistent(&self.machine).await?;
        self.start().await;
        let reply = script::ask_again(self.engine(), &request).await;
        self.note(std::slice::from_ref(&reply));
        self.belief.repeated(op, &allocated, &reply)
    }

    /// What is on record. No daemon may run.
    fn on_record(&self) -> ModelView {
        ModelView::of(&self.machine.desired(), Some)
    }

    fn engine(&self) -> &Engine {
        self.engine.as_deref().unwrap()
    }

    async fn start(&mut self) {
        self.engine = Some(self.machine.start().await);
    }

    async fn stop(&mut self) {
        if let Some(engine) = self.engine.take() {
            FakeMachine::crash(engine).await;
        }
    }

    async fn end(mut self) -> Result<Answered, String> {
        self.pass().await;
        self.stop().await;
        let found = self.on_record();
        self.belief.holds(&found).map_err(|reason| format!("at the end, {reason}"))?;
        is_consistent(&self.machine).await?;
        tears_down_to_nothing(&mut self.machine).await?;
        Ok(self.answered)
    }
}
