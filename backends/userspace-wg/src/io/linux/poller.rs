//! What a thread of a device waits for.

use std::{io, os::fd::AsFd};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use super::{
    timer::Timer,
    tun::Tun,
    udp::{IpFamily, UdpSockets},
    waker::Waker,
};

/// The sources that a thread waits on, put together anew for each wait: what another thread or process reads must not
/// wake this one, and that changes while a device works.
#[derive(Clone, Copy)]
pub(crate) struct Poller<'a> {
    waker: &'a Waker,
    tun: Option<&'a Tun>,
    timer: Option<&'a Timer>,
    sockets: Option<&'a UdpSockets>,
}

/// What a wait was ended by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadySources {
    timer: bool,
    v4: bool,
    v6: bool,
}

impl<'a> Poller<'a> {
    /// Waits for `waker` alone.
    pub(crate) fn new(waker: &'a Waker) -> Self {
        Self { waker, tun: None, timer: None, sockets: None }
    }

    /// Waits for frames on the interface as well, if there is one.
    pub(crate) fn with_tun(self, tun: Option<&'a Tun>) -> Self {
        Self { tun, ..self }
    }

    /// Waits for the timer as well.
    pub(crate) fn with_timer(self, timer: &'a Timer) -> Self {
        Self { timer: Some(timer), ..self }
    }

    /// Waits for datagrams as well, if there are sockets.
    pub(crate) fn with_sockets(self, sockets: Option<&'a UdpSockets>) -> Self {
        Self { sockets, ..self }
    }

    /// Waits until there is something to do. A signal may end the wait early.
    pub(crate) fn wait(self) -> io::Result<ReadySources> {
        let waker = self.waker.as_fd();
        let tun = self.tun.map_or(waker, Tun::as_fd);
        let timer = self.timer.map_or(waker, Timer::as_fd);
        let v4 = self.sockets.map(|sockets| sockets.socket(IpFamily::V4));
        let v6 = self.sockets.map(|sockets| sockets.socket(IpFamily::V6));
        let v4 = v4.flatten().map_or(waker, AsFd::as_fd);
        let v6 = v6.flatten().map_or(waker, AsFd::as_fd);
        // Every source keeps its place, so an absent one is the waker again: poll(2) reports it twice, which harms
        // nothing. The threads' ends are cut off where nothing of them is waited for, as poll(2) costs by the entry.
        let mut waiting =
            [waker, tun, timer, v4, v6].map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
        let used = match (self.sockets, self.timer, self.tun) {
            (Some(_), ..) => 5,
            (None, Some(_), _) => 3,
            (None, None, Some(_)) => 2,
            (None, None, None) => 1,
        };
        match poll(&mut waiting[..used], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Not only POLLIN counts: an error that waits at a socket is reported as POLLERR and is taken away by
        // receiving. An entry that was not passed to poll(2) has no events.
        let [woken, _, timer, v4, v6] = waiting.map(|descriptor| !descriptor.revents().is_empty());
        if woken {
            self.waker.clear();
        }
        Ok(ReadySources {
            timer: timer && self.timer.is_some(),
            v4: v4 && self.sockets.is_some(),
            v6: v6 && self.sockets.is_some(),
        })
    }
}

impl ReadySources {
    /// Whether the timer has run out.
    pub(crate) fn timer(self) -> bool {
        self.timer
    }

    /// The sockets that may have something to receive.
    pub(crate) fn sockets(self) -> impl Iterator<Item = IpFamily> {
        let v4 = self.v4.then_some(IpFamily::V4);
        let v6 = self.v6.then_some(IpFamily::V6);
        v4.into_iter().chain(v6)
    }
}
