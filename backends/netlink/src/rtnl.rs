//! Requests to the routing interface of a namespace.
//!
//! The kernel works on a request inside the `send`, under a lock that a deletion of a link holds for milliseconds. So each
//! request has a socket to itself: those that are idle are kept, and another one is opened when all are in use.

use std::sync::Mutex;

use netlink_sys::protocols::NETLINK_ROUTE;
use overlayd_core::sync::lock;

use crate::{Error, Netns, OwnChanges, Request, Result, channel::NetlinkChannel, steps};

/// The routing interface of one network namespace. Any number of threads may use it at once.
#[derive(Debug)]
pub struct Rtnl {
    netns: Netns,
    own_changes: OwnChanges,
    idle: Mutex<Vec<NetlinkChannel>>,
}

impl Rtnl {
    /// For the calling thread's network namespace. No watch knows its changes as ours.
    pub fn here() -> Result<Self> {
        Self::noting(OwnChanges::default())
    }

    /// For the calling thread's network namespace. Its changes are noted in the record.
    pub fn noting(own_changes: OwnChanges) -> Result<Self> {
        Self::open(Netns::current()?, own_changes)
    }

    /// For the calling thread's network namespace, which is `netns`: asking for it takes as long as a small request. No
    /// watch knows its changes as ours.
    pub fn visiting(netns: Netns) -> Result<Self> {
        Self::open(netns, OwnChanges::default())
    }

    fn open(netns: Netns, own_changes: OwnChanges) -> Result<Self> {
        let channel = open(&own_changes)?;
        Ok(Self { netns, own_changes, idle: Mutex::new(vec![channel]) })
    }

    /// For another network namespace. No watch knows its changes as ours.
    pub fn inside(netns: &Netns) -> Result<Self> {
        let own_changes = OwnChanges::default();
        let channel = netns.run(|| open(&own_changes))??;
        Ok(Self { netns: netns.try_clone()?, own_changes, idle: Mutex::new(vec![channel]) })
    }

    /// The namespace it speaks for.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The record of its changes.
    pub fn own_changes(&self) -> &OwnChanges {
        &self.own_changes
    }

    /// Carries out one request.
    pub fn run(&self, request: Request) -> Result<()> {
        self.run_all([request])
    }

    /// Carries out all requests in order, in one datagram. The kernel goes on after a failed one; the first failure
    /// is returned.
    pub fn run_all(&self, requests: impl IntoIterator<Item = Request>) -> Result<()> {
        self.try_each(requests)?.into_iter().collect()
    }

    /// As [`Rtnl::run_all`], with the outcome of each request.
    pub fn try_each(&self, requests: impl IntoIterator<Item = Request>) -> Result<Vec<Result<()>>> {
        let requests: Vec<Request> = requests.into_iter().collect();
        // Before they are sent: the event may be read before the answer is.
        requests
            .iter()
            .filter_map(|request| request.removal)
            .for_each(|removal| self.own_changes.note_removal(removal));
        if !steps::are_told() {
            return self.with_channel(|channel| channel.acknowledge(&requests));
        }
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in &requests {
            outcomes.extend(self.with_channel(|channel| channel.acknowledge(std::slice::from_ref(request)))?);
            steps::done(&request.action);
        }
        Ok(outcomes)
    }

    /// The one object that the request asks for.
    pub(crate) fn get<T>(&self, request: Request, parse: impl Fn(&[u8]) -> Option<T>) -> Result<T> {
        self.with_channel(|channel| channel.get(request, parse))
    }

    /// All objects that the request asks for, as they were at one moment.
    pub(crate) fn dump<T>(&self, request: impl Fn() -> Request, parse: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>> {
        self.with_channel(|channel| channel.dump(request, parse))
    }

    fn with_channel<T>(&self, work: impl FnOnce(&mut NetlinkChannel) -> Result<T>) -> Result<T> {
        let idle = lock(&self.idle).pop();
        let mut channel = match idle {
            Some(channel) => channel,
            None => self.netns.run(|| open(&self.own_changes))??,
        };
        let outcome = work(&mut channel);
        // A channel whose answers are not all read would hand them to the next request.
        if channel.is_settled() {
            lock(&self.idle).push(channel);
        }
        outcome
    }
}

/// A channel for the calling thread's network namespace.
fn open(own_changes: &OwnChanges) -> Result<NetlinkChannel, Error> {
    let channel = NetlinkChannel::open(NETLINK_ROUTE)?;
    own_changes.note_socket(channel.port());
    Ok(channel)
}
