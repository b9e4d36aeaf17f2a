//! What the kernel tells of changes to links, addresses, routes and rules, whoever made them.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{Mutex, MutexGuard},
};

use netlink_sys::{
    Socket, SocketAddr,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
};
use nlink::netlink::{AttrIter, MessageIter, NlMsgType};
use overlayd_core::sync::lock;
use rustix::{io::Errno, net::sockopt};

use crate::{Error, Link, Result};

/// Multicast groups of `linux/rtnetlink.h`: links, addresses and routes, both families.
const ROUTE_GROUPS: [u32; 5] = [1, 5, 9, 7, 11];
/// `NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`.
const NFTABLES: u32 = 7;
/// Room for a burst, in bytes.
const ROOM: usize = 4 << 20;
/// `NFNL_SUBSYS_NFTABLES`, the upper byte of a message type.
const NFTABLES_SUBSYSTEM: u16 = 10;
/// `NFT_MSG_NEWGEN`, the lower byte.
const NEW_GENERATION: u16 = 15;
/// How many sockets of this process, and links that it deleted, are remembered.
const MOST_KEPT: usize = 4096;

/// Something that happened in the watched network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A link is new or changed.
    Link(Link),
    /// A link is gone.
    LinkGone(Link, By),
    /// An address of the link with this index is gone.
    AddressGone(u32, By),
    /// A route by the link with this index is gone.
    RouteGone(u32, By),
    /// A change of the ruleset touched these tables, and led to this generation.
    Ruleset {
        /// Names of the tables.
        tables: Vec<String>,
        /// The ruleset's number since then.
        generation: u32,
    },
    /// More happened than there was room for.
    Overrun,
}

/// On whose request something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// This process's, by an [`crate::Rtnl`].
    Us,
    /// Another program's.
    Another,
    /// Nobody's by netlink: it follows from something else.
    Kernel,
}

/// Listens from when it is made; nothing that happens later is missed without an [`Event::Overrun`].
pub struct Watch {
    route: Socket,
    rules: Socket,
    buffer: Vec<u8>,
    /// Tables that the change of the ruleset being told has touched so far.
    touched: Vec<String>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// For the calling thread's network namespace.
    pub fn here() -> Result<Self> {
        let open = || -> io::Result<Self> {
            let route = listen(NETLINK_ROUTE, &ROUTE_GROUPS)?;
            let rules = listen(NETLINK_NETFILTER, &[NFTABLES])?;
            Ok(Self { route, rules, buffer: Vec::with_capacity(64 * 1024), touched: Vec::new() })
        };
        open().map_err(|e| Error::new("listen to changes of the network", e))
    }

    /// What to wait on: either is readable when there is something to take.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.route.as_fd(), self.rules.as_fd()]
    }

    /// Takes everything that was told, without waiting.
    pub fn take(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while receive(&self.route, &mut self.buffer, &mut events)? {
            for message in MessageIter::new(&self.buffer) {
                let (header, payload) = message.map_err(|e| Error::new("read an event", io::Error::other(e)))?;
                events.extend(route_event(header.nlmsg_type, header.nlmsg_pid, payload));
            }
        }
        while receive(&self.rules, &mut self.buffer, &mut events)? {
            for message in MessageIter::new(&self.buffer) {
                let (header, payload) = message.map_err(|e| Error::new("read an event", io::Error::other(e)))?;
                events.extend(rules_event(header.nlmsg_type, payload, &mut self.touched));
            }
        }
        Ok(events)
    }
}

/// The port numbers of this process's sockets. One stays here after its socket is closed: what it did may be told later.
static OWN: Mutex<VecDeque<u32>> = Mutex::new(VecDeque::new());

/// Notes that what this socket asks for is done by us.
pub(crate) fn register(address: SocketAddr) {
    let mut own = lock(&OWN);
    if own.contains(&address.port_number()) {
        return;
    }
    if own.len() == MOST_KEPT {
        own.pop_front();
    }
    own.push_back(address.port_number());
}

/// What we remove ourselves, by kind of request and index of the link: the kernel does not always say on whose request
/// something goes.
static REMOVED: Mutex<VecDeque<(u16, u32)>> = Mutex::new(VecDeque::new());

/// Notes, before it is sent, that a request removes a link or an address: both `struct ifinfomsg` and `struct ifaddrmsg`
/// have the index of the link in their second word.
pub(crate) fn sending(message: &[u8]) {
    let kind = message.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    let index = message.get(20..24).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes);
    let (Some(kind @ (NlMsgType::RTM_DELLINK | NlMsgType::RTM_DELADDR)), Some(index)) = (kind, index) else { return };
    let mut removed = removed();
    if removed.len() == MOST_KEPT {
        removed.pop_front();
    }
    removed.push_back((kind, index));
}

/// Whether this process has asked for the link's end, of which the kernel has not told yet.
pub fn is_being_deleted(link: u32) -> bool {
    removed().contains(&(NlMsgType::RTM_DELLINK, link))
}

/// Who removed this; our own note of it is struck out.
fn remover(kind: u16, index: u32, port: u32) -> By {
    let mut removed = removed();
    let noted = removed.iter().position(|known| *known == (kind, index));
    let noted = noted.and_then(|at| removed.remove(at)).is_some();
    if noted || by(port) == By::Us { By::Us } else { By::Another }
}

fn removed() -> MutexGuard<'static, VecDeque<(u16, u32)>> {
    lock(&REMOVED)
}

fn by(port: u32) -> By {
    match port {
        0 => By::Kernel,
        port if lock(&OWN).contains(&port) => By::Us,
        _ => By::Another,
    }
}

fn listen(protocol: isize, groups: &[u32]) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    // Without `CAP_NET_ADMIN` the host's limit holds, and an overrun is told.
    if sockopt::set_socket_recv_buffer_size_force(&socket, ROOM).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, ROOM)?;
    }
    groups.iter().try_for_each(|group| socket.add_membership(*group))?;
    Ok(socket)
}

/// Whether there was a datagram, which is in the buffer then.
fn receive(socket: &Socket, buffer: &mut Vec<u8>, events: &mut Vec<Event>) -> Result<bool> {
    loop {
        buffer.clear();
        match socket.recv(buffer, 0) {
            Ok(_) => return Ok(true),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::AGAIN) => return Ok(false),
                Some(Errno::INTR) => {}
                Some(Errno::NOBUFS) => events.push(Event::Overrun),
                _ => return Err(Error::new("read an event", error)),
            },
        }
    }
}

fn route_event(kind: u16, port: u32, payload: &[u8]) -> Option<Event> {
    match kind {
        NlMsgType::RTM_NEWLINK => Link::told(payload).map(Event::Link),
        NlMsgType::RTM_DELLINK => {
            let link = Link::told(payload)?;
            let by = remover(kind, link.index, port);
            Some(Event::LinkGone(link, by))
        }
        NlMsgType::RTM_DELADDR => {
            // `struct ifaddrmsg`: the index is its last word.
            let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
            Some(Event::AddressGone(index, remover(kind, index, port)))
        }
        NlMsgType::RTM_DELROUTE => route_link(payload).map(|index| Event::RouteGone(index, by(port))),
        _ => None,
    }
}

/// The link of a route (`RTA_OIF` after a `struct rtmsg`).
fn route_link(payload: &[u8]) -> Option<u32> {
    const HEADER: usize = 12;
    const OIF: u16 = 4;
    let (_, value) = AttrIter::new(payload.get(HEADER..)?).find(|(kind, _)| *kind == OIF)?;
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}

/// Every message about the ruleset names its table in its first attribute, but the one that ends a change, which has the
/// generation there.
fn rules_event(kind: u16, payload: &[u8], touched: &mut Vec<String>) -> Option<Event> {
    const HEADER: usize = 4;
    const FIRST: u16 = 1;
    if kind >> 8 != NFTABLES_SUBSYSTEM {
        return None;
    }
    let (_, value) = AttrIter::new(payload.get(HEADER..)?).find(|(kind, _)| *kind == FIRST)?;
    if kind & 0xff == NEW_GENERATION {
        let generation = u32::from_be_bytes(value.try_into().ok()?);
        return Some(Event::Ruleset { tables: std::mem::take(touched), generation });
    }
    let name = value.strip_suffix(&[0]).unwrap_or(value);
    if !touched.iter().any(|table| table.as_bytes() == name) {
        touched.push(String::from_utf8_lossy(name).into_owned());
    }
    None
}
