//! Deletes container interfaces that are out of service, many at a time: one deletion costs the kernel some 20 ms of
//! waiting, and one of a whole interface group hardly more.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::JoinHandle,
    time::Duration,
};

use overlayd_core::{
    contract::{self, Error},
    sync::{lock, unpoisoned},
};
use overlayd_netlink::{OrAbsent, Rtnl, link};

/// How long the first interface waits for company.
const GATHER: Duration = Duration::from_millis(20);
/// How long to wait after a deletion that failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long to wait for deletions before something is wrong with the host.
const PATIENCE: Duration = Duration::from_secs(10);

/// The thread that deletes, and what it owes.
#[derive(Debug)]
pub(crate) struct LinkReaper {
    shared: Arc<ReaperShared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct ReaperShared {
    state: Mutex<ReaperState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ReaperState {
    /// How many interfaces were handed over.
    given: u64,
    /// How many of those are deleted.
    done: u64,
    /// Up to which count a caller waits for deletions.
    awaited: u64,
    ending: bool,
}

impl ReaperState {
    fn is_idle(&self) -> bool {
        self.given == self.done && !self.ending
    }

    fn is_unhurried(&self) -> bool {
        self.awaited <= self.done && !self.ending
    }
}

impl ReaperShared {
    fn state(&self) -> MutexGuard<'_, ReaperState> {
        lock(&self.state)
    }
}

impl LinkReaper {
    /// Starts the thread, which deletes links of this group by `rtnl`.
    pub(crate) fn start(rtnl: Arc<Rtnl>, group: u32) -> std::io::Result<Self> {
        let shared = Arc::new(ReaperShared::default());
        let own = shared.clone();
        let thread = std::thread::Builder::new().name("link-reaper".into()).spawn(move || serve(&own, &rtnl, group))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Hands over links that have been moved to the group.
    pub(crate) fn take(&self) {
        self.shared.state().given += 1;
        self.shared.changed.notify_all();
    }

    /// Waits until all that was handed over is deleted.
    pub(crate) fn finish(&self) -> contract::Result<()> {
        let mut state = self.shared.state();
        let wanted = state.given;
        state.awaited = state.awaited.max(wanted);
        self.shared.changed.notify_all();
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, |state| state.done < wanted);
        match unpoisoned(waited).1.timed_out() {
            true => Err(Error::Deadline { what: "deleting links out of service".into(), after: PATIENCE }),
            false => Ok(()),
        }
    }
}

impl Drop for LinkReaper {
    fn drop(&mut self) {
        self.shared.state().ending = true;
        self.shared.changed.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that deletes links panicked");
        }
    }
}

fn serve(shared: &ReaperShared, rtnl: &Rtnl, group: u32) {
    while let Some(given) = gathered(shared) {
        match rtnl.run(link::delete_group(group)).or_absent() {
            Ok(_) => {
                // What was given after `gathered` counts for the next round: it may have joined the group too late.
                shared.state().done = given;
                shared.changed.notify_all();
            }
            Err(error) => {
                tracing::warn!(%error, group, "links out of service are not deleted yet");
                if pause(shared) {
                    return;
                }
            }
        }
    }
}

/// Waits for links to delete and then a little for more of them, unless a caller waits. `None` at the end.
fn gathered(shared: &ReaperShared) -> Option<u64> {
    let state = unpoisoned(shared.changed.wait_while(shared.state(), |state| state.is_idle()));
    // A caller that waits for its deletion should not wait for company as well.
    let waited = unpoisoned(shared.changed.wait_timeout_while(state, GATHER, |state| state.is_unhurried()));
    let state = waited.0;
    (state.given != state.done).then_some(state.given)
}

/// Waits before another attempt; true when there is none because the daemon ends.
fn pause(shared: &ReaperShared) -> bool {
    let waited = shared.changed.wait_timeout_while(shared.state(), RETRY, |state| !state.ending);
    unpoisoned(waited).0.ending
}
