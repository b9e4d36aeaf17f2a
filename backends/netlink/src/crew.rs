use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use overlayd_core::sync::{lock, unpoisoned};

use crate::{Error, Netns, Result};

/// Threads that work for callers who must not wait on their own, and that may visit other network namespaces meanwhile.
/// They are kept: starting one for every visit costs more than most visits.
#[derive(Debug)]
pub struct Crew {
    shared: Arc<Shared>,
}

/// A thread of a crew, at home in the namespace of whoever made the crew.
#[derive(Debug)]
pub struct Visitor {
    home: Netns,
    /// Why it could not return from a visit. Then it works no more.
    lost: Option<Error>,
}

type Job = Box<dyn FnOnce(&mut Visitor) + Send>;

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    ending: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("jobs", &self.queue().jobs.len()).finish_non_exhaustive()
    }
}

impl Crew {
    /// So many threads, at home in the calling thread's namespace.
    pub fn here(size: usize) -> Result<Self> {
        let crew = Self { shared: Arc::new(Shared::default()) };
        (0..size).try_for_each(|_| start(&crew.shared, Netns::current()?))?;
        Ok(crew)
    }

    /// Has one of the threads do this, after what was asked before if all are busy.
    pub fn run(&self, job: impl FnOnce(&mut Visitor) + Send + 'static) {
        self.shared.queue().jobs.push_back(Box::new(job));
        self.shared.changed.notify_one();
    }
}

impl Drop for Crew {
    /// The threads end when all that was asked is done. Nobody waits for that: the kernel may keep one for long.
    fn drop(&mut self) {
        self.shared.queue().ending = true;
        self.shared.changed.notify_all();
    }
}

impl Visitor {
    /// Does `work` inside the namespace. Sockets it opens stay there.
    pub fn inside<T>(&mut self, netns: &Netns, work: impl FnOnce() -> T) -> Result<T> {
        netns.enter()?;
        let _return = Return(self);
        Ok(work())
    }
}

/// Takes the thread home, also when the work panics.
struct Return<'a>(&'a mut Visitor);

impl Drop for Return<'_> {
    fn drop(&mut self) {
        self.0.lost = self.0.home.enter().err();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// The next job; `None` at the end.
    fn next(&self) -> Option<Job> {
        let idle = |queue: &mut Queue| queue.jobs.is_empty() && !queue.ending;
        let mut queue = unpoisoned(self.changed.wait_while(self.queue(), idle));
        queue.jobs.pop_front()
    }
}

fn start(shared: &Arc<Shared>, home: Netns) -> Result<()> {
    let own = Arc::clone(shared);
    let work = move || serve(&own, Visitor { home, lost: None });
    let started = std::thread::Builder::new().name("netns-visitor".into()).spawn(work);
    // It ends by itself, with the crew.
    started.map(drop).map_err(|e| Error::new("start a thread", e))
}

fn serve(shared: &Shared, mut visitor: Visitor) {
    while let Some(job) = shared.next() {
        if catch_unwind(AssertUnwindSafe(|| job(&mut visitor))).is_err() {
            // Who asked learns it from what the job has dropped.
            tracing::error!("a job in the kernel's network panicked");
        }
        while let Some(error) = visitor.lost.take() {
            // Anything else that this thread did would happen in a container.
            tracing::error!(%error, "a thread cannot return from a container's network; it tries again");
            std::thread::sleep(std::time::Duration::from_secs(1));
            visitor.lost = visitor.home.enter().err();
        }
    }
}
