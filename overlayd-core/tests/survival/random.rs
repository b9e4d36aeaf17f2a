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

use futures_util::future::join_all;
use overlayd_core::{
    contract::{NetworkName, Target},
    crash::Plan,
    engine::Engine,
    names::LinkName,
    protocol::{Request, Response},
};
use overlayd_testkit::fake::Machine;
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};

use crate::{
    judge::{is_consistent, tears_down_to_nothing},
    model::Model,
    ops::{CONTAINERS, Op, Step, steps},
    script,
    view::View,
};

/// Cases per run, shared by the threads, and the time after which no further one is begun.
const CASES: u32 = 2000;
const TIME: Duration = Duration::from_secs(300);
const THREADS: u32 = 2;

#[test]
fn whatever_is_asked_in_whatever_order_the_node_is_as_the_model_says() {
    let seed = seed();
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

/// The seed of a usual run, which is the same every time to the last reply: what is asked together is asked one after the
/// other then.
const USUAL: u64 = 37;

fn given_seed() -> Option<u64> {
    env::var("OVERLAYD_TEST_SEED").ok().and_then(|seed| seed.parse().ok())
}

fn seed() -> u64 {
    given_seed().unwrap_or(USUAL)
}

async fn one_by_one(requests: impl Iterator<Item = impl Future<Output = Response>>) -> Vec<Response> {
    let mut replies = Vec::new();
    for request in requests {
        replies.push(request.await);
    }
    replies
}

/// Cases and steps that were played.
fn run(seed: u64) -> (usize, usize) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config =
        Config { cases: CASES / THREADS, failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let (start, counts, failed) = (Instant::now(), Cell::new((0, 0)), Cell::new(false));
    let outcome = runner.run(&steps(), |steps| {
        // What has failed is made smaller, however long that takes.
        if start.elapsed() > TIME && !failed.get() {
            return Ok(());
        }
        let (cases, so_far) = counts.get();
        counts.set((cases + 1, so_far + steps.len()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(&steps)).map_err(|reason| {
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

async fn play(steps: &[Step]) -> Result<(), String> {
    let mut world = World::new().await;
    for (number, step) in steps.iter().enumerate() {
        world.take(step).await.map_err(|reason| format!("step {number}, {step:?}: {reason}"))?;
    }
    world.end().await
}

/// The node, and all that it may be according to the replies so far: which of two peers that were added at the same time got
/// the range that both were to have, for one, no reply says.
struct World {
    machine: Machine,
    engine: Option<Arc<Engine>>,
    models: Vec<Model>,
}

impl World {
    async fn new() -> Self {
        let mut machine = Machine::default();
        let mut model = Model::at(machine.now());
        for pid in CONTAINERS {
            machine.attacher.start(&Target::Process(pid));
            model.start(pid);
        }
        let engine = Some(machine.start().await);
        Self { machine, engine, models: vec![model] }
    }

    async fn take(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Together(ops) => self.ask(ops).await?,
            Step::Crash(op, point) => self.crash(op, *point).await?,
            Step::Ends(pid) => {
                self.machine.attacher.stop(&Target::Process(*pid));
                self.models.iter_mut().for_each(|model| model.end(*pid));
            }
            Step::Starts(pid) => {
                self.machine.attacher.start(&Target::Process(*pid));
                self.models.iter_mut().for_each(|model| model.start(*pid));
            }
            Step::DeviceVanishes => {
                self.machine.overlay.vanish(&LinkName::new("zl-atlas-n1-g").unwrap());
                self.pass().await;
            }
            Step::NetworkVanishes(service) => {
                if let Some(network) = self.network_of(service).await {
                    self.machine.attacher.vanish(&network);
                }
                self.pass().await;
            }
            Step::Wait(seconds) => {
                self.machine.pass(*seconds);
                self.models.iter_mut().for_each(|model| model.now += seconds);
            }
            Step::Pass => self.pass().await,
        }
        Ok(())
    }

    async fn pass(&mut self) {
        self.engine().reconcile().await;
        self.models.iter_mut().for_each(Model::settle);
    }

    async fn network_of(&self, service: &str) -> Option<NetworkName> {
        let Response::Status(status) = self.engine().answer(Request::Status).await else { return None };
        let found = status.services.into_iter().find(|known| known.service == service);
        found.map(|known| NetworkName(known.name))
    }

    /// Some order of the operations explains all replies.
    async fn ask(&mut self, ops: &[Op]) -> Result<(), String> {
        let allocated = self.models[0].allocated();
        let requests = ops.iter().map(|op| self.engine().answer(op.request(&allocated)));
        let replies = if given_seed().is_some() { join_all(requests).await } else { one_by_one(requests).await };
        let asked: Vec<_> = ops.iter().zip(&replies).map(|(op, reply)| (op, released(op, &allocated), reply)).collect();
        let orders = orders(ops);
        let explain = |model: &Model| orders.iter().filter_map(|order| explain(model.clone(), &asked, order)).collect();
        self.narrow(explain, || format!("answered {replies:?}"))
    }

    /// What the node may be from now on, of each thing it may have been; the reason is for when that is nothing.
    fn narrow(
        &mut self,
        becomes: impl Fn(&Model) -> Vec<Model>,
        reason: impl FnOnce() -> String,
    ) -> Result<(), String> {
        let mut next: Vec<Model> = Vec::new();
        for model in self.models.iter().flat_map(becomes) {
            if !next.contains(&model) {
                next.push(model);
            }
        }
        if next.is_empty() {
            return Err(format!("{}; the model was {:#?}", reason(), self.models));
        }
        self.models = next;
        Ok(())
    }

    /// The daemon ends during the operation; the next one has on record what was there at some moment of it, and answers the
    /// repeated request.
    async fn crash(&mut self, op: &Op, point: usize) -> Result<(), String> {
        let allocated = self.models[0].allocated();
        let released = released(op, &allocated);
        let request = op.request(&allocated);
        let plan = Plan::at(point + 1);
        let reply = plan.run(self.engine().answer(request.clone())).await;
        self.stop().await;
        self.start().await;
        self.stop().await;
        let found = View::of(&self.machine.desired());
        let becomes = |model: &Model| {
            let mut states = match &reply {
                Some(reply) => explain(model.clone(), &[(op, released, reply)], &whole(op)).into_iter().collect(),
                None => {
                    let told = found.reply_to(op, model.view());
                    model.after_a_crash(op, released, told.as_ref().and_then(crate::model::address_in))
                }
            };
            states.iter_mut().for_each(Model::settle);
            states.retain(|state| *state.view() == found);
            states
        };
        self.narrow(becomes, || format!("answered {reply:?}, and on record is {found:#?}"))?;
        is_consistent(&self.machine).await?;
        self.start().await;
        let reply = script::ask_again(self.engine(), &request).await;
        let becomes = |model: &Model| {
            let mut model = model.clone();
            if let Op::Mint(name, _) = op
                && model.has_edge(name)
            {
                model.explains(&Op::Revoke(name), None, &Response::Ok);
            }
            explain(model, &[(op, released, &reply)], &whole(op)).into_iter().collect()
        };
        self.narrow(becomes, || format!("the repeated request was answered {reply:?}"))
    }

    fn engine(&self) -> &Engine {
        self.engine.as_deref().unwrap()
    }

    async fn start(&mut self) {
        self.engine = Some(self.machine.start().await);
    }

    async fn stop(&mut self) {
        if let Some(engine) = self.engine.take() {
            Machine::crash(engine).await;
        }
    }

    async fn end(mut self) -> Result<(), String> {
        self.pass().await;
        self.stop().await;
        let Self { mut machine, models, .. } = self;
        let found = View::of(&machine.desired());
        if !models.iter().any(|model| *model.view() == found) {
            return Err(format!("at the end, on record is {found:#?}, the model is {models:#?}"));
        }
        is_consistent(&machine).await?;
        tears_down_to_nothing(&mut machine).await
    }
}

fn released(op: &Op, allocated: &[IpAddr]) -> Option<IpAddr> {
    match op {
        Op::Release(number) if !allocated.is_empty() => Some(allocated[number % allocated.len()]),
        _ => None,
    }
}

/// A part of an operation that nothing comes between: its beginning, what its reply is about, and what is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Beginning,
    Reply,
    End,
}

/// The node after the operations, if doing their parts in this order explains the replies.
fn explain(mut model: Model, asked: &[(&Op, Option<IpAddr>, &Response)], order: &[(usize, Part)]) -> Option<Model> {
    for (number, part) in order {
        let (op, released, reply) = asked[*number];
        match part {
            Part::Beginning => model.begin(op),
            Part::Reply if model.explains(op, released, reply) => {}
            Part::Reply => return None,
            Part::End => model.finish(op),
        }
    }
    Some(model)
}

/// The parts of an operation in their order.
fn parts(op: &Op) -> &'static [Part] {
    match op {
        Op::SetUpService(..) => &[Part::Beginning, Part::Reply],
        Op::Detach(_) => &[Part::Reply, Part::End],
        _ => &[Part::Reply],
    }
}

/// One operation alone.
fn whole(op: &Op) -> Vec<(usize, Part)> {
    parts(op).iter().map(|part| (0, *part)).collect()
}

/// All orders of the parts of these operations.
fn orders(ops: &[Op]) -> Vec<Vec<(usize, Part)>> {
    let mut orders = vec![Vec::new()];
    for (number, op) in ops.iter().enumerate() {
        orders = orders.iter().flat_map(|order| merged(order, number, parts(op))).collect();
    }
    orders
}

/// The parts of one more operation, in their order, at all places in this one.
fn merged(order: &[(usize, Part)], number: usize, parts: &[Part]) -> Vec<Vec<(usize, Part)>> {
    let Some((last, first)) = parts.split_last() else { return vec![order.to_vec()] };
    let mut merges = Vec::new();
    for at in 0..=order.len() {
        for mut merge in merged(&order[..at], number, first) {
            merge.push((number, *last));
            merge.extend_from_slice(&order[at..]);
            merges.push(merge);
        }
    }
    merges
}
