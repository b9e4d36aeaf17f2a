//! Every crash point of every operation: before and after each step on the host, in the middle of it, and on both sides
//! of every commit. The daemon ends there; another one starts, the request is repeated, and no client can tell.

use std::{
    collections::BTreeMap,
    mem::discriminant,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use overlayd_core::{
    crash::Plan,
    protocol::{Request, Response},
};
use overlayd_testkit::fake::FakeMachine;

use crate::{
    judge::{Moment, is_consistent, tears_down_to_nothing},
    script,
};

/// Fewer points than this mean that the script or the engine has lost some.
const LEAST_POINTS: usize = 300;

/// One operation, with the machine as it is before it.
struct Scene {
    number: usize,
    request: Request,
    machine: FakeMachine,
    before: Moment,
    /// What an undisturbed daemon answers, passes and leaves.
    reply: Response,
    points: Vec<String>,
    after: Moment,
}

/// Where the daemon ends: at this point of an operation, and then at this one of its successor's start, from 1.
#[derive(Debug, Clone, Copy)]
struct Case {
    scene: usize,
    point: usize,
    then: Option<usize>,
}

#[test]
fn a_crash_at_any_point_of_any_operation_leaves_nothing_and_loses_nothing() {
    let scenes = block_on(record());
    let points = scenes.iter().map(|scene| scene.points.len()).sum::<usize>();
    let cases: Vec<Case> = scenes.iter().flat_map(cases).collect();
    report(&scenes, points, cases.len());
    assert!(points > LEAST_POINTS, "only {points} crash points");
    let failures = in_parallel(&scenes, &cases);
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// Plays the script without a crash, one daemon per operation.
async fn record() -> Vec<Scene> {
    let mut machine = script::machine();
    let mut scenes = Vec::new();
    for (number, request) in script::operations().into_iter().enumerate() {
        let (copy, before) = (machine.copy(), Moment::of(&machine));
        let engine = machine.start().await;
        let plan = Plan::trace();
        let reply = plan.run(engine.answer(request.clone())).await.unwrap();
        FakeMachine::crash(engine).await;
        if let Err(reason) = is_consistent(&machine).await {
            panic!("undisturbed, after {request:?}: {reason}");
        }
        let after = Moment::of(&machine);
        scenes.push(Scene { number, request, machine: copy, before, reply, points: plan.seen(), after });
    }
    scenes
}

/// One crash at every point, and at every point a second crash somewhere in the start that follows; where in the start
/// goes round.
fn cases(scene: &Scene) -> Vec<Case> {
    let once = |point| Case { scene: scene.number, point, then: None };
    let twice = |point| Case { scene: scene.number, point, then: Some(7 * scene.number + 5 * point) };
    (1..=scene.points.len()).flat_map(|point| [once(point), twice(point)]).collect()
}

fn report(scenes: &[Scene], points: usize, cases: usize) {
    println!("{} operations, {points} crash points, {cases} cases", scenes.len());
    let mut kinds = BTreeMap::<&str, usize>::new();
    scenes.iter().flat_map(|scene| &scene.points).for_each(|point| *kinds.entry(point).or_default() += 1);
    for (point, count) in kinds {
        println!("{count:5} {point}");
    }
}

fn in_parallel(scenes: &[Scene], cases: &[Case]) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let scene = &scenes[case.scene];
            if let Err(reason) = block_on(play(scene, case)) {
                let point = &scene.points[case.point - 1];
                let failure = format!("{case:?} ({point}, during {:?}): {reason}", scene.request);
                failures.lock().unwrap().push(failure);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });
    failures.into_inner().unwrap()
}

async fn play(scene: &Scene, case: &Case) -> Result<(), String> {
    let mut machine = scene.machine.copy();
    let engine = machine.start().await;
    let plan = Plan::at(case.point);
    if plan.run(engine.answer(scene.request.clone())).await.is_some() {
        return Err("this point was not reached".into());
    }
    FakeMachine::crash(engine).await;
    if let Some(then) = case.then {
        crash_at_start(&mut machine, then).await;
    }
    let engine = machine.start().await;
    let reply = script::ask_again(&engine, &scene.request).await;
    FakeMachine::crash(engine).await;
    if discriminant(&reply) != discriminant(&scene.reply) {
        return Err(format!("the repeated request was answered {reply:?} instead of {:?}", scene.reply));
    }
    compare(&scene.before, &Moment::of(&machine), &scene.after)?;
    is_consistent(&machine).await?;
    tears_down_to_nothing(&mut machine).await
}

/// A start that ends at the `n`th point, counted round and round; a start that passes none ends after it.
async fn crash_at_start(machine: &mut FakeMachine, n: usize) {
    let trace = Plan::trace();
    let mut copy = machine.copy();
    let engine = trace.run(copy.start()).await.unwrap();
    FakeMachine::crash(engine).await;
    let points = trace.seen().len().max(1);
    if let Some(engine) = Plan::at(n % points + 1).run(machine.start()).await {
        FakeMachine::crash(engine).await;
    }
}

fn compare(before: &Moment, now: &Moment, undisturbed: &Moment) -> Result<(), String> {
    let new: Vec<_> = now.outline.difference(&undisturbed.outline).collect();
    let gone: Vec<_> = undisturbed.outline.difference(&now.outline).collect();
    if !(new.is_empty() && gone.is_empty()) {
        return Err(format!("the records differ from those without a crash: new {new:#?}, gone {gone:#?}"));
    }
    for (handle, ip) in &before.addresses {
        match now.addresses.get(handle) {
            Some(address) if address != ip => return Err(format!("{handle} had {ip} and has {address}")),
            _ => {}
        }
    }
    Ok(())
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
