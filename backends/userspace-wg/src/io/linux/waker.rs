use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes a thread that waits on a [`Poller`](super::poller::Poller), from any other thread.
pub(crate) struct Waker(OwnedFd);

impl Waker {
    /// One that has not been woken.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Ends the present wait, or the next one.
    pub(crate) fn wake(&self) {
        // The only refusal is that the counter is full, and then the thread is woken already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Forgets all calls of [`Waker::wake`] until now.
    pub(super) fn clear(&self) {
        // The only refusal is that there is nothing to forget.
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
