use std::{
    io,
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use super::{Shared, inward, outward};

/// The two threads of a device. They end with this value.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts both, for the device of this name.
    pub(crate) fn start(name: &str, shared: &Arc<Shared>) -> io::Result<Self> {
        let mut threads = Self { shared: shared.clone(), handles: Vec::with_capacity(2) };
        threads.spawn(name, "out", outward::run)?;
        threads.spawn(name, "in", inward::run)?;
        Ok(threads)
    }

    fn spawn(&mut self, name: &str, way: &'static str, run: fn(&Shared) -> io::Result<()>) -> io::Result<()> {
        let guard = Guard { shared: self.shared.clone(), device: name.to_owned(), way, outcome: None };
        let thread = Builder::new().name(format!("{name}-{way}"));
        self.handles.push(thread.spawn(move || {
            let mut guard = guard;
            guard.outcome = Some(run(&guard.shared));
        })?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop();
        for handle in self.handles.drain(..) {
            // A panic has been reported by the thread's guard.
            let _ = handle.join();
        }
    }
}

/// Reports how a thread ended, a panic too.
struct Guard {
    shared: Arc<Shared>,
    device: String,
    way: &'static str,
    outcome: Option<io::Result<()>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let why = match self.outcome.take() {
            Some(Ok(())) => return,
            Some(Err(error)) => format!("its `{}` thread ended: {error}", self.way),
            None => format!("its `{}` thread panicked", self.way),
        };
        tracing::error!(device = self.device, reason = why, "the device stopped working");
        self.shared.fail(why);
    }
}
