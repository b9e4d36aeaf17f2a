use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard},
};

use overlayd_core::{
    contract::{AttachmentId, DriftReason, DriftSignal},
    sync::lock,
};
use rustix::event::epoll;

/// Knows the processes of the attached containers, by their pidfds, and tells when one ends.
#[derive(Debug)]
pub(super) struct ExitWatcher {
    epoll: Arc<OwnedFd>,
    signal: DriftSignal,
    living: Mutex<WatchedProcesses>,
}

#[derive(Debug)]
struct WatchedProcesses {
    /// The number that the next process gets.
    next: u64,
    numbers: HashMap<AttachmentId, u64>,
    processes: HashMap<u64, (AttachmentId, OwnedFd)>,
}

impl ExitWatcher {
    /// Processes are numbered from `first` on, for the thread that waits on `epoll`.
    pub(super) fn new(epoll: Arc<OwnedFd>, signal: DriftSignal, first: u64) -> Self {
        let living = WatchedProcesses { next: first, numbers: HashMap::new(), processes: HashMap::new() };
        Self { epoll, signal, living: Mutex::new(living) }
    }

    pub(super) fn watch(&self, id: &AttachmentId, pidfd: OwnedFd) {
        let mut living = self.living();
        living.forget(id);
        let number = living.next;
        living.next += 1;
        let data = epoll::EventData::new_u64(number);
        if let Err(error) = epoll::add(&self.epoll, &pidfd, data, epoll::EventFlags::IN) {
            tracing::warn!(container = %id, %error, "the end of a container will be noticed late");
            return;
        }
        living.numbers.insert(id.clone(), number);
        living.processes.insert(number, (id.clone(), pidfd));
    }

    pub(super) fn forget(&self, id: &AttachmentId) {
        self.living().forget(id);
    }

    /// The descriptor with this number is readable; it may be none of a process.
    pub(super) fn notice(&self, number: u64) {
        let ended = {
            let mut living = self.living();
            let ended = living.processes.remove(&number).map(|(id, _)| id);
            if let Some(id) = &ended {
                living.numbers.remove(id);
            }
            ended
        };
        if let Some(id) = ended {
            self.signal.attachment(id, DriftReason::ProcessEnded);
        }
    }

    fn living(&self) -> MutexGuard<'_, WatchedProcesses> {
        lock(&self.living)
    }
}

impl WatchedProcesses {
    /// Closing the pidfd takes it off the list of `epoll`, as there is no other copy of the descriptor.
    fn forget(&mut self, id: &AttachmentId) {
        if let Some(number) = self.numbers.remove(id) {
            self.processes.remove(&number);
        }
    }
}
