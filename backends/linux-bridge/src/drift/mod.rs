//! Notices what other programs change of our objects, and containers that end: one thread that waits for the kernel's events.
//!
//! The devices of the overlay are looked after as well, so that a host has one such thread: they carry the instance's
//! mark like each of our links.

mod detector;
mod exit_watcher;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use overlayd_core::{
    contract::{self, AttachmentId, DriftSignal, Error},
    sync::{KeyedLocks, lock},
};
use overlayd_netlink::{Link, watch::NetworkWatch};
use rustix::{
    buffer::spare_capacity,
    event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll},
    io::Errno,
};

use self::{detector::DriftDetector, exit_watcher::ExitWatcher};
use crate::host::HostContext;

/// Between two looks at events, so that a flood of them is read in large portions: what we do ourselves is most of it.
const BREATH: Duration = Duration::from_millis(2);
/// How long to wait after events could not be read.
const RETRY: Duration = Duration::from_secs(1);
/// What the descriptors stand for in the answers of `epoll`; the numbers of processes begin after them.
const NETWORK: u64 = 0;
const ALARM: u64 = 1;
const FIRST_PROCESS: u64 = 2;

/// The thread; it ends with this value.
#[derive(Debug)]
pub(crate) struct DriftMonitor {
    reader: Arc<Mutex<EventReader>>,
    exits: Arc<ExitWatcher>,
    stopping: Arc<AtomicBool>,
    alarm: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl DriftMonitor {
    /// Starts watching the calling thread's network namespace, which is `host`'s too.
    pub(crate) fn start(
        host: Arc<HostContext>,
        busy: Arc<KeyedLocks<AttachmentId>>,
        signal: DriftSignal,
    ) -> contract::Result<Self> {
        // First listened, then looked: so nothing is missed between the two.
        let watch = NetworkWatch::here(host.rtnl.own_changes().clone())?;
        let detector = DriftDetector::new(host, busy, signal.clone())?;
        let start = || -> io::Result<Self> {
            let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
            let alarm = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            let readable = |descriptor, number| {
                epoll::add(&epoll, descriptor, epoll::EventData::new_u64(number), epoll::EventFlags::IN)
            };
            watch.descriptors().into_iter().try_for_each(|descriptor| readable(descriptor, NETWORK))?;
            readable(alarm.as_fd(), ALARM)?;
            let exits = Arc::new(ExitWatcher::new(epoll.clone(), signal, FIRST_PROCESS));
            let stopping = Arc::new(AtomicBool::new(false));
            let stop = StopSignal { asked: stopping.clone(), alarm: alarm.clone() };
            let reader = Arc::new(Mutex::new(EventReader { watch, detector }));
            let thread_reader = reader.clone();
            let thread_exits = exits.clone();
            let thread = std::thread::Builder::new()
                .name("host-watch".into())
                .spawn(move || serve(&epoll, &thread_reader, &thread_exits, &stop))?;
            Ok(Self { reader, exits, stopping, alarm, thread: Some(thread) })
        };
        start().map_err(|e| Error::host("start the thread that watches the host", e))
    }

    /// Our links as they are now, and those of others on our bridges. The kernel is asked only for what it has told and
    /// was not read yet: listing many links takes long, and
    /// holds the RTNL lock that every change of a link waits for.
    pub(crate) fn links(&self) -> contract::Result<Vec<Link>> {
        let mut reader = lock(&self.reader);
        reader.hear()?;
        if reader.detector.next_due().is_some() {
            // The thread may wait for what it is not going to hear any more.
            self.ring();
        }
        reader.detector.links()
    }

    /// From now on the end of this process is told, once.
    pub(crate) fn watch_process(&self, id: &AttachmentId, pidfd: OwnedFd) {
        self.exits.watch(id, pidfd);
    }

    /// The attachment is over, and its process of no more concern.
    pub(crate) fn forget_process(&self, id: &AttachmentId) {
        self.exits.forget(id);
    }

    fn ring(&self) {
        // The only refusal is that it rings already.
        let _ = rustix::io::write(&self.alarm, &1u64.to_ne_bytes());
    }
}

impl Drop for DriftMonitor {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.ring();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that watches the host panicked");
        }
    }
}

/// Reads what the kernel tells, for the thread or for a caller that needs it sooner.
#[derive(Debug)]
struct EventReader {
    watch: NetworkWatch,
    detector: DriftDetector,
}

impl EventReader {
    /// Reads all that was told until now.
    fn hear(&mut self) -> overlayd_netlink::Result<()> {
        match self.watch.take() {
            Ok(events) => self.detector.hear_all(events),
            Err(error) => {
                self.detector.miss();
                return Err(error);
            }
        }
        Ok(())
    }
}

/// How the thread hreader that it is to end, or that something was heard in its place.
struct StopSignal {
    asked: Arc<AtomicBool>,
    alarm: Arc<OwnedFd>,
}

impl StopSignal {
    /// Whether it is to end. The alarm rings no more.
    fn is_asked(&self) -> bool {
        // The only refusal is that it does not ring.
        let _ = rustix::io::read(&self.alarm, &mut [0; 8]);
        self.asked.load(Ordering::Acquire)
    }

    /// Waits for so long, but not when the alarm rings. One that is interrupted is shorter.
    fn pause(&self, duration: Duration) {
        let mut alarm = [PollFd::new(&self.alarm, PollFlags::IN)];
        // Nothing is lost where it cannot wait: it works more often.
        let _ = poll(&mut alarm, Some(&timespec(duration)));
    }
}

fn serve(epoll: &OwnedFd, reader: &Mutex<EventReader>, exits: &ExitWatcher, stop: &StopSignal) {
    let mut ready = Vec::with_capacity(64);
    loop {
        ready.clear();
        let due = lock(reader).detector.next_due().map(|due| timespec(due.saturating_duration_since(Instant::now())));
        match epoll::wait(epoll, spare_capacity(&mut ready), due.as_ref()) {
            // An interrupted wait is as good as one that found nothing.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                tracing::warn!(%error, "changes of the host are not waited for at the moment");
                stop.pause(RETRY);
            }
        }
        if stop.is_asked() {
            return;
        }
        for event in &ready {
            exits.notice(event.data.u64());
        }
        let heard = lock(reader).hear();
        if let Err(error) = heard {
            tracing::warn!(%error, "changes of the host are not noticed at once for the moment");
            stop.pause(RETRY);
        }
        lock(reader).detector.conclude();
        stop.pause(BREATH);
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() }
}

/// What reads like an error of the host, for calls that cannot hand one on.
pub(crate) fn noted<T>(outcome: overlayd_netlink::Result<T>, what: &str) -> Option<T> {
    outcome.inspect_err(|error| tracing::warn!(%error, "{what}")).ok()
}
