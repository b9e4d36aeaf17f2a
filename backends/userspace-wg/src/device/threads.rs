use std::{
    io,
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use super::{SharedDevice, receive_thread, send_thread};

/// The two threads of a device. They end with this value.
pub(crate) struct DeviceThreads {
    shared: Arc<SharedDevice>,
    handles: Vec<JoinHandle<()>>,
}

impl DeviceThreads {
    /// Starts both, for the device of this name.
    pub(crate) fn start(name: &str, shared: &Arc<SharedDevice>) -> io::Result<Self> {
        let mut threads = Self { shared: shared.clone(), handles: Vec::with_capacity(2) };
        threads.spawn(name, "out", send_thread::run)?;
        threads.spawn(name, "in", receive_thread::run)?;
        Ok(threads)
    }

    fn spawn(&mut self, name: &str, way: &'static str, run: fn(&SharedDevice) -> io::Result<()>) -> io::Result<()> {
        // Made before the thread, so that its end is reported in any case: a panic unwinds through it.
        let guard = ThreadGuard { shared: self.shared.clone(), device: name.to_owned(), way, outcome: None };
        let thread = Builder::new().name(format!("{name}-{way}"));
        self.handles.push(thread.spawn(move || {
            let mut guard = guard;
            guard.outcome = Some(run(&guard.shared));
        })?);
        Ok(())
    }
}

impl Drop for DeviceThreads {
    fn drop(&mut self) {
        // Both threads wait on a waker, so they see it at once.
        self.shared.stop();
        for handle in self.handles.drain(..) {
            // A panic has been reported by the thread's guard.
            let _ = handle.join();
        }
    }
}

/// Reports how a thread ended, a panic too.
struct ThreadGuard {
    shared: Arc<SharedDevice>,
    device: String,
    way: &'static str,
    outcome: Option<io::Result<()>>,
}

impl Drop for ThreadGuard {
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

    use super::*;
    use crate::{
        device::GateState,
        io::{KernelOffloads, tun, udp::UdpSockets},
        noise::{HandshakeLimits, Tunnel},
    };

    fn device() -> Arc<SharedDevice> {
        let tunnel = Tunnel::new([1; 32], 1420, HandshakeLimits::default());
        let sockets = UdpSockets::bind(0, 0, KernelOffloads::default()).unwrap();
        Arc::new(SharedDevice::new(tun::fake::silent(), tunnel, sockets, GateState::Open).unwrap())
    }

    fn failure_of(run: fn(&SharedDevice) -> io::Result<()>) -> String {
        let shared = device();
        let mut threads = DeviceThreads::start("test", &shared).unwrap();
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
    fn a_thread_that_panics_with_the_tunnel_locked_hangs_no_other() {
        let why = failure_of(|shared| shared.with_tunnel(|_| panic!("on purpose")));
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
        drop(DeviceThreads::start("test", &shared).unwrap());
        assert_eq!((shared.failure(), Arc::strong_count(&shared)), (None, 1));
    }
}
