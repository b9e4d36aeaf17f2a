use std::{
    io,
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use super::{Shared, receive_thread, send_thread};

/// The two threads of a device. They end with this value.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts both, for the device of this name.
    pub(crate) fn start(name: &str, shared: &Arc<Shared>) -> io::Result<Self> {
        let mut threads = Self { shared: shared.clone(), handles: Vec::with_capacity(2) };
        threads.spawn(name, "out", send_thread::run)?;
        threads.spawn(name, "in", receive_thread::run)?;
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;
    use crate::{
        device::Stands,
        io::{Offloads, tun::Tun, udp::Sockets},
        noise::{Engine, Limits},
    };

    fn device() -> Arc<Shared> {
        let silent = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let engine = Engine::new([1; 32], 1420, Limits::default());
        let sockets = Sockets::bind(0, 0, Offloads::default()).unwrap();
        Arc::new(Shared::new(Tun::from(silent), engine, sockets, Stands::Open).unwrap())
    }

    fn failure_of(run: fn(&Shared) -> io::Result<()>) -> String {
        let shared = device();
        let mut threads = Threads::start("test", &shared).unwrap();
        assert_eq!(shared.failure(), None);
        threads.spawn("test", "broken", run).unwrap();
        let start = Instant::now();
        while shared.failure().is_none() {
            assert!(start.elapsed() < Duration::from_secs(10), "the failure is not reported");
            std::thread::yield_now();
        }
        drop(threads);
        shared.failure().unwrap().to_owned()
    }

    #[test]
    fn a_thread_that_panics_ends_the_device_and_says_so() {
        assert_eq!(failure_of(|_| panic!("on purpose")), "its `broken` thread panicked");
    }

    #[test]
    fn a_thread_that_panics_with_the_engine_in_hand_hangs_nobody() {
        let why = failure_of(|shared| shared.with_engine(|_| panic!("on purpose")));
        assert_eq!(why, "its `broken` thread panicked");
    }

    #[test]
    fn a_thread_that_fails_ends_the_device_and_says_why() {
        let why = failure_of(|_| Err(io::Error::other("the cable burns")));
        assert_eq!(why, "its `broken` thread ended: the cable burns");
    }

    #[test]
    fn a_device_that_is_dropped_ends_both_threads_and_is_no_failure() {
        let shared = device();
        drop(Threads::start("test", &shared).unwrap());
        assert_eq!((shared.failure(), Arc::strong_count(&shared)), (None, 1));
    }
}
