//! Brings the host in line with the records: at start, now and then, and as soon as a backend reports drift.
//!
//! The host drifts: another program deletes a bridge, flushes a ruleset or takes an address away, and containers die
//! without a word. A pass asks again for what is recorded, which changes nothing where nothing has changed.

mod drift;
mod leftovers;
mod steps;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Instant, Interval, MissedTickBehavior};

use self::steps::{STEPS, StepTime};
use super::{
    Engine,
    areas::Areas,
    attachments::{AttachmentScope, SeenAttachments},
    context::Context,
    health::{EngineHealth, PassReport},
    locks::Entered,
    observer::DeviceObserver,
};
use crate::contract::{Drift, DriftSignal};

/// What is reported within this time is put right together: one command of a person is many events.
const GATHER: Duration = Duration::from_millis(40);

/// After a pass, this many times as long as it took is free of passes,
const REST: u32 = 1;

/// but not longer than this.
const LONGEST_REST: Duration = Duration::from_millis(200);

/// Reconciles all areas.
#[derive(Debug)]
pub(super) struct Reconciler {
    context: Arc<Context>,
    areas: Arc<Areas>,
    observer: Arc<DeviceObserver>,
    health: Arc<EngineHealth>,
}

/// One run of the steps.
struct PassRun {
    time: StepTime,
    scope: AttachmentScope,
    /// The attachments as the host has them; `None` while they were not looked at.
    seen: Option<SeenAttachments>,
}

impl Reconciler {
    pub(super) fn new(
        context: &Arc<Context>,
        areas: &Arc<Areas>,
        observer: &Arc<DeviceObserver>,
        health: &Arc<EngineHealth>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            areas: Arc::clone(areas),
            observer: Arc::clone(observer),
            health: Arc::clone(health),
        }
    }

    /// Adopts what an earlier run has left, finishes or withdraws what was half done, and removes what no record speaks
    /// of. What cannot be done now is left to the next pass: a daemon that answers can be asked why.
    pub(super) async fn start(&self) {
        let everything = Some(SeenAttachments::default());
        let run = PassRun { time: StepTime::Start, scope: AttachmentScope::All, seen: everything };
        let mut entered = self.context.gate.enter().await;
        self.health.keep(self.reconcile(run, &mut entered).await);
    }

    /// One pass; whether the host is in line after it.
    pub(super) async fn pass(&self) -> bool {
        let run = PassRun { time: StepTime::Pass, scope: AttachmentScope::Drifted, seen: None };
        let mut entered = self.context.gate.enter().await;
        let report = self.reconcile(run, &mut entered).await;
        let is_in_line = report.is_in_line();
        self.health.keep(report);
        is_in_line
    }

    async fn reconcile(&self, mut run: PassRun, entered: &mut Entered<'_>) -> PassReport {
        let mut report = PassReport::default();
        let due = STEPS.into_iter().filter(|(_, time)| *time == StepTime::Always || *time == run.time);
        let steps: Vec<_> = due.map(|(step, _)| step).collect();
        for step in steps {
            let failures = self.run(step, &mut run, entered).await;
            report.note(step.name(), failures);
        }
        tracing::debug!(steps = ?report.steps(), "reconciled");
        report
    }
}

/// Starts passes until the engine is dropped.
pub(super) fn spawn(engine: &Arc<Engine>) {
    let mut ticks = tokio::time::interval(engine.context.config.times.reconcile_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let signal = engine.context.host.drift.clone();
    tokio::spawn(run(Arc::downgrade(engine), ticks, signal));
}

/// Holds the engine only while it works.
async fn run(engine: Weak<Engine>, mut ticks: Interval, signal: DriftSignal) {
    // The first tick comes at once, and the start has just reconciled everything.
    ticks.tick().await;
    loop {
        let mut drift = tokio::select! {
            drift = signal.next() => drift,
            _ = ticks.tick() => Drift::default(),
        };
        // Not at once: a script that deletes ten objects would otherwise cause ten passes.
        if drift != Drift::default() {
            tokio::time::sleep(GATHER).await;
            drift.merge(signal.take());
        }
        let Some(engine) = engine.upgrade() else { return };
        let started = Instant::now();
        if drift == Drift::default() {
            engine.reconciler.pass().await;
        } else {
            engine.reconciler.heal(drift).await;
        }
        drop(engine);
        // A program that undoes this work as soon as it is done is not to keep the daemon busy all the time.
        tokio::time::sleep((started.elapsed() * REST).min(LONGEST_REST)).await;
    }
}
