use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use overlayd_core::contract::{Error, Result};
use tokio::sync::{Notify, watch};

/// What a fake was asked, and how it shall misbehave. Clones share the record and the rules.
///
/// ```
/// # use overlayd_testkit::fake::{FaultReaction, FaultScript, CallStage};
/// let script = FaultScript::default();
/// script.once(CallStage::HalfWay, |call| call.verb == "attach", FaultReaction::fail("no buffer space"));
/// script.always(CallStage::Entry, |call| call.object == "zl-slow-b", FaultReaction::Hang);
/// ```
#[derive(Clone)]
pub struct FaultScript {
    calls: watch::Sender<Vec<RecordedCall>>,
    rules: Arc<Mutex<Vec<FaultRule>>>,
}

/// One call that a fake received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedCall {
    /// Method name of the trait, as `attach`.
    pub verb: &'static str,
    /// What it was about: name of the device or network, display form of the attachment id, or empty.
    pub object: String,
    /// Position among all calls since the script was made, from 1.
    pub number: usize,
}

/// Where in a call a rule takes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStage {
    /// Before anything is done.
    Entry,
    /// When the host is half changed: a failure here makes the fake undo what it did, a call dropped here leaves its
    /// half behind.
    HalfWay,
}

/// What a fake does when a rule takes hold.
#[derive(Clone)]
pub enum FaultReaction {
    /// Ends the call with this error.
    Fail(Arc<dyn Fn() -> Error + Send + Sync>),
    /// Never goes on: for tests of deadlines and of dropped calls.
    Hang,
    /// Goes on when notified (one `notify_one` lets one call pass).
    Wait(Arc<Notify>),
}

struct FaultRule {
    stage: CallStage,
    matches: Box<dyn Fn(&RecordedCall) -> bool + Send>,
    reaction: FaultReaction,
    left: RuleLifetime,
}

#[derive(PartialEq, Eq)]
enum RuleLifetime {
    Once,
    Always,
}

impl Default for FaultScript {
    fn default() -> Self {
        Self { calls: watch::Sender::new(Vec::new()), rules: Arc::default() }
    }
}

impl fmt::Debug for FaultScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Script").field(&*self.calls.borrow()).finish()
    }
}

impl FaultReaction {
    /// A failure of the host with this text.
    pub fn fail(text: &'static str) -> Self {
        Self::fail_with(move || Error::Host { action: "play the script".into(), source: text.into() })
    }

    /// A failure of your choice.
    pub fn fail_with(error: impl Fn() -> Error + Send + Sync + 'static) -> Self {
        Self::Fail(Arc::new(error))
    }
}

impl FaultScript {
    /// Reacts to the first matching call only.
    pub fn once(
        &self,
        stage: CallStage,
        matches: impl Fn(&RecordedCall) -> bool + Send + 'static,
        reaction: FaultReaction,
    ) {
        self.add(FaultRule { stage, matches: Box::new(matches), reaction, left: RuleLifetime::Once });
    }

    /// Reacts to every matching call until [`FaultScript::calm`].
    pub fn always(
        &self,
        stage: CallStage,
        matches: impl Fn(&RecordedCall) -> bool + Send + 'static,
        reaction: FaultReaction,
    ) {
        self.add(FaultRule { stage, matches: Box::new(matches), reaction, left: RuleLifetime::Always });
    }

    /// Reacts to the `n`th call of this verb from now on, counting from 1.
    pub fn nth(&self, n: usize, verb: &'static str, stage: CallStage, reaction: FaultReaction) {
        let target = self.calls().iter().filter(|call| call.verb == verb).count() + n;
        let calls = self.calls.subscribe();
        let counts = move |call: &RecordedCall| {
            let seen = calls.borrow().iter().filter(|c| c.verb == verb && c.number <= call.number).count();
            call.verb == verb && seen == target
        };
        self.once(stage, counts, reaction);
    }

    /// Drops all rules; calls that already hang go on hanging.
    pub fn calm(&self) {
        self.rules().clear();
    }

    /// All calls so far, in the order of their arrival.
    pub fn calls(&self) -> Vec<RecordedCall> {
        self.calls.borrow().clone()
    }

    /// The verbs of all calls so far.
    pub fn verbs(&self) -> Vec<&'static str> {
        self.calls.borrow().iter().map(|call| call.verb).collect()
    }

    /// Waits until a matching call has arrived (returns at once when one already has).
    pub async fn called(&self, matches: impl Fn(&RecordedCall) -> bool) -> RecordedCall {
        let mut calls = self.calls.subscribe();
        // The sender lives in `self`, so the channel cannot close while we wait.
        let seen = calls.wait_for(|calls| calls.iter().any(&matches)).await.expect("the script is alive");
        seen.iter().find(|call| matches(call)).expect("wait_for saw one").clone()
    }

    /// Notes the arrival of a call and plays the rules for its entry.
    pub(super) async fn enter(&self, verb: &'static str, object: impl fmt::Display) -> Result<RecordedCall> {
        let mut call = RecordedCall { verb, object: object.to_string(), number: 0 };
        self.calls.send_modify(|calls| {
            call.number = calls.len() + 1;
            calls.push(call.clone());
        });
        self.play(&call, CallStage::Entry).await.map(|()| call)
    }

    /// Plays the rules for the middle of a call, and gives up the processor once so that the call can be dropped here.
    pub(super) async fn half_way(&self, call: &RecordedCall) -> Result<()> {
        tokio::task::yield_now().await;
        overlayd_core::crash::point("within", call.verb).await;
        self.play(call, CallStage::HalfWay).await
    }

    async fn play(&self, call: &RecordedCall, stage: CallStage) -> Result<()> {
        match self.reaction(call, stage) {
            None => Ok(()),
            Some(FaultReaction::Fail(error)) => Err(error()),
            Some(FaultReaction::Hang) => std::future::pending().await,
            Some(FaultReaction::Wait(notify)) => {
                notify.notified().await;
                Ok(())
            }
        }
    }

    fn reaction(&self, call: &RecordedCall, stage: CallStage) -> Option<FaultReaction> {
        let mut rules = self.rules();
        let found = rules.iter().position(|rule| rule.stage == stage && (rule.matches)(call))?;
        let reaction = rules[found].reaction.clone();
        if rules[found].left == RuleLifetime::Once {
            rules.remove(found);
        }
        Some(reaction)
    }

    fn add(&self, rule: FaultRule) {
        self.rules().push(rule);
    }

    fn rules(&self) -> MutexGuard<'_, Vec<FaultRule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
