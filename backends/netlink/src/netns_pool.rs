//! Threads that enter network namespaces of containers and return.
//!
//! The namespace belongs to the thread, not to the process: a thread that is in the wrong one would do its next work inside
//! a container. So a thread that cannot return does nothing else until it can.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use overlayd_core::sync::{lock, unpoisoned};

use crate::{Error, Netns, Result};

/// Threads that do blocking work for their callers, and that may enter other network namespaces for it. They are kept:
/// starting one for every namespace costs more than most of the work does.
#[derive(Debug)]
pub struct NetnsPool {
    shared: Arc<PoolState>,
}

/// A thread of a pool. Its home is the network namespace in which the pool was made.
#[derive(Debug)]
pub struct NetnsWorker {
    home: Netns,
    /// Why it could not return from a visit. Then it works no more.
    lost: Option<Error>,
}

type Job = Box<dyn FnOnce(&mut NetnsWorker) + Send>;

#[derive(Default)]
struct PoolState {
    queue: Mutex<JobQueue>,
    changed: Condvar,
}

#[derive(Default)]
struct JobQueue {
    jobs: VecDeque<Job>,
    ending: bool,
}

impl std::fmt::Debug for PoolState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolState").field("jobs", &self.queue().jobs.len()).finish_non_exhaustive()
    }
}

impl NetnsPool {
    /// So many threads, at home in the calling thread's namespace.
    pub fn here(size: usize) -> Result<Self> {
        let pool = Self { shared: Arc::new(PoolState::default()) };
        (0..size).try_for_each(|_| start(&pool.shared, Netns::current()?))?;
        Ok(pool)
    }

    /// Has one of the threads do this, after what was asked before if all are busy.
    pub fn run(&self, job: impl FnOnce(&mut NetnsWorker) + Send + 'static) {
        self.shared.queue().jobs.push_back(Box::new(job));
        self.shared.changed.notify_one();
    }
}

impl Drop for NetnsPool {
    /// The threads end when all that was asked is done. This does not wait for them: the kernel may keep one for long.
    fn drop(&mut self) {
        self.shared.queue().ending = true;
        self.shared.changed.notify_all();
    }
}

impl NetnsWorker {
    /// Does `work` inside the namespace. Sockets it opens stay there.
    pub fn inside<T>(&mut self, netns: &Netns, work: impl FnOnce() -> T) -> Result<T> {
        netns.enter()?;
        let _return = ReturnHome(self);
        Ok(work())
    }
}

/// Takes the thread home, also when the work panics.
struct ReturnHome<'a>(&'a mut NetnsWorker);

impl Drop for ReturnHome<'_> {
    fn drop(&mut self) {
        self.0.lost = self.0.home.enter().err();
    }
}

impl PoolState {
    fn queue(&self) -> MutexGuard<'_, JobQueue> {
        lock(&self.queue)
    }

    /// The next job; `None` at the end.
    fn next(&self) -> Option<Job> {
        let idle = |queue: &mut JobQueue| queue.jobs.is_empty() && !queue.ending;
        let mut queue = unpoisoned(self.changed.wait_while(self.queue(), idle));
        queue.jobs.pop_front()
    }
}

fn start(shared: &Arc<PoolState>, home: Netns) -> Result<()> {
    let own = Arc::clone(shared);
    let work = move || serve(&own, NetnsWorker { home, lost: None });
    let started = std::thread::Builder::new().name("netns-visitor".into()).spawn(work);
    // It ends by itself, with the pool.
    started.map(drop).map_err(|e| Error::new("start a thread", e))
}

fn serve(shared: &PoolState, mut visitor: NetnsWorker) {
    while let Some(job) = shared.next() {
        if catch_unwind(AssertUnwindSafe(|| job(&mut visitor))).is_err() {
            // Who asked learns it from what the job has dropped.
            tracing::error!("a job in the kernel's network panicked");
        }
        while let Some(error) = visitor.lost.take() {
            // This thread must do nothing else: it would happen inside a container.
            tracing::error!(%error, "a thread cannot return from a container's network; it tries again");
            std::thread::sleep(std::time::Duration::from_secs(1));
            visitor.lost = visitor.home.enter().err();
        }
    }
}
