use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use overlayd_core::contract::{Error, Result};
use tokio::sync::{Notify, watch};

/// What a fake was asked, and how it shall misbehave. Clones share the record and the rules.
///
/// ```
/// # use overlayd_testkit::fake::{Reaction, Script, Stage};
/// let script = Script::default();
/// script.once(Stage::HalfWay, |call| call.verb == "attach", Reaction::fail("no buffer space"));
/// script.always(Stage::Entry, |call| call.object == "zl-slow-b", Reaction::Hang);
/// ```
#[derive(Clone)]
pub struct Script {
    calls: watch::Sender<Vec<Call>>,
    rules: Arc<Mutex<Vec<Rule>>>,
}

/// One call that a fake received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Method name of the trait, as `attach`.
    pub verb: &'static str,
    /// What it was about: name of the device or network, display form of the attachment id, or empty.
    pub object: String,
    /// Position among all calls since the script was made, from 1.
    pub number: usize,
}

/// Where in a call a rule takes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before anything is done.
    Entry,
    /// When the host is half changed: a failure here makes the fake undo what it did, a call dropped here leaves its
    /// half behind.
    HalfWay,
}

/// What a fake does when a rule takes hold.
#[derive(Clone)]
pub enum Reaction {
    /// Ends the call with this error.
    Fail(Arc<dyn Fn() -> Error + Send + Sync>),
    /// Never goes on: for tests of deadlines and of dropped calls.
    Hang,
    /// Goes on when notified (one `notify_one` lets one call pass).
    Wait(Arc<Notify>),
}

struct Rule {
    stage: Stage,
    matches: Box<dyn Fn(&Call) -> bool + Send>,
    reaction: Reaction,
    left: Left,
}

#[derive(PartialEq, Eq)]
enum Left {
    Once,
    Always,
}

impl Default for Script {
    fn default() -> Self {
        Self { calls: watch::Sender::new(Vec::new()), rules: Arc::default() }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Script").field(&*self.calls.borrow()).finish()
    }
}

impl Reaction {
    /// A failure of the host with this text.
    pub fn fail(text: &'static str) -> Self {
        Self::fail_with(move || Error::Host { action: "play the script".into(), source: text.into() })
    }

    /// A failure of your choice.
    pub fn fail_with(error: impl Fn() -> Error + Send + Sync + 'static) -> Self {
        Self::Fail(Arc::new(error))
    }
}

impl Script {
    /// Reacts to the first matching call only.
    pub fn once(&self, stage: Stage, matches: impl Fn(&Call) -> bool + Send + 'static, reaction: Reaction) {
        self.add(Rule { stage, matches: Box::new(matches), reaction, left: Left::Once });
    }

    /// Reacts to every matching call until [`Script::calm`].
    pub fn always(&self, stage: Stage, matches: impl Fn(&Call) -> bool + Send + 'static, reaction: Reaction) {
        self.add(Rule { stage, matches: Box::new(matches), reaction, left: Left::Always });
    }

    /// Reacts to the `n`th call of this verb from now on, counting from 1.
    pub fn nth(&self, n: usize, verb: &'static str, stage: Stage, reaction: Reaction) {
        let target = self.calls().iter().filter(|call| call.verb == verb).count() + n;
        let calls = self.calls.subscribe();
        let counts = move |call: &Call| {
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
    pub fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    /// The verbs of all calls so far.
    pub fn verbs(&self) -> Vec<&'static str> {
        self.calls.borrow().iter().map(|call| call.verb).collect()
    }

    /// Waits until a matching call has arrived (returns at once when one already has).
    pub async fn called(&self, matches: impl Fn(&Call) -> bool) -> Call {
        let mut calls = self.calls.subscribe();
        // The sender lives in `self`, so the channel cannot close while we wait.
        let seen = calls.wait_for(|calls| calls.iter().any(&matches)).await.expect("the script is alive");
        seen.iter().find(|call| matches(call)).expect("wait_for saw one").clone()
    }

    /// Notes the arrival of a call and plays the rules for its entry.
    pub(super) async fn enter(&self, verb: &'static str, object: impl fmt::Display) -> Result<Call> {
        let mut call = Call { verb, object: object.to_string(), number: 0 };
        self.calls.send_modify(|calls| {
            call.number = calls.len() + 1;
            calls.push(call.clone());
        });
        self.play(&call, Stage::Entry).await.map(|()| call)
    }

    /// Plays the rules for the middle of a call, and gives up the processor once so that the call can be dropped here.
    pub(super) async fn half_way(&self, call: &Call) -> Result<()> {
        tokio::task::yield_now().await;
        overlayd_core::crash::point("within", call.verb).await;
        self.play(call, Stage::HalfWay).await
    }

    async fn play(&self, call: &Call, stage: Stage) -> Result<()> {
        match self.reaction(call, stage) {
            None => Ok(()),
            Some(Reaction::Fail(error)) => Err(error()),
            Some(Reaction::Hang) => std::future::pending().await,
            Some(Reaction::Wait(notify)) => {
                notify.notified().await;
                Ok(())
            }
        }
    }

    fn reaction(&self, call: &Call, stage: Stage) -> Option<Reaction> {
        let mut rules = self.rules();
        let found = rules.iter().position(|rule| rule.stage == stage && (rule.matches)(call))?;
        let reaction = rules[found].reaction.clone();
        if rules[found].left == Left::Once {
            rules.remove(found);
        }
        Some(reaction)
    }

    fn add(&self, rule: Rule) {
        self.rules().push(rule);
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
