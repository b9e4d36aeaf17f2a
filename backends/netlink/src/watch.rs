//! What the kernel tells of changes to links, addresses, routes and rules, by this process and by others.
//!
//! A socket of the routing interface and one of netfilter listen to multicast groups. Each has room for a burst; when it
//! overflows, the kernel drops events and the next read says so, which becomes [`NetworkEvent::Overrun`].

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_sys::{
    Socket,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
};
use rustix::{io::Errno, net::sockopt};

pub use crate::own_changes::ChangedBy;
use crate::{
    Error, Link, OwnChanges, Result,
    address::RTM_DELADDR,
    link::{RTM_DELLINK, RTM_NEWLINK},
    message::{attribute_of, be32_of, messages, text_of, u32_of},
    own_changes::OwnRemoval,
    route::{self, RTM_DELROUTE},
};

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

/// Something that happened in the watched network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkEvent {
    /// A link is new or changed.
    Link(Link),
    /// A link is gone.
    LinkGone(Link, ChangedBy),
    /// An address of the link with this index is gone.
    AddressGone(u32, ChangedBy),
    /// A route by the link with this index is gone.
    RouteGone(u32, ChangedBy),
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

/// Listens from when it is made; nothing that happens later is missed without an [`NetworkEvent::Overrun`].
pub struct NetworkWatch {
    route: Socket,
    rules: Socket,
    own_changes: OwnChanges,
    buffer: Vec<u8>,
    /// Tables that the change of the ruleset being told has touched so far.
    touched: Vec<String>,
}

impl std::fmt::Debug for NetworkWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkWatch").finish_non_exhaustive()
    }
}

impl NetworkWatch {
    /// For the calling thread's network namespace. What the record has is told as [`ChangedBy::Us`].
    pub fn here(own_changes: OwnChanges) -> Result<Self> {
        let open = || -> io::Result<Self> {
            let route = listen(NETLINK_ROUTE, &ROUTE_GROUPS)?;
            let rules = listen(NETLINK_NETFILTER, &[NFTABLES])?;
            Ok(Self { route, rules, own_changes, buffer: Vec::with_capacity(64 * 1024), touched: Vec::new() })
        };
        open().map_err(|e| Error::new("listen to changes of the network", e))
    }

    /// What to wait on: either is readable when there is something to take.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.route.as_fd(), self.rules.as_fd()]
    }

    /// Takes everything that was told, without waiting.
    pub fn take(&mut self) -> Result<Vec<NetworkEvent>> {
        let mut events = Vec::new();
        while receive(&self.route, &mut self.buffer, &mut events)? {
            let told = messages(&self.buffer);
            events.extend(told.filter_map(|message| self.route_event(message.kind, message.port, message.payload)));
        }
        while receive(&self.rules, &mut self.buffer, &mut events)? {
            for message in messages(&self.buffer) {
                events.extend(rules_event(message.kind, message.payload, &mut self.touched));
            }
        }
        Ok(events)
    }

    fn route_event(&self, kind: u16, port: u32, payload: &[u8]) -> Option<NetworkEvent> {
        match kind {
            RTM_NEWLINK => Link::told(payload).map(NetworkEvent::Link),
            RTM_DELLINK => {
                let link = Link::told(payload)?;
                let by = self.own_changes.remover(OwnRemoval::Link(link.index), port);
                Some(NetworkEvent::LinkGone(link, by))
            }
            RTM_DELADDR => {
                // `struct ifaddrmsg`: the index is its last word.
                let index = payload.get(4..8).and_then(u32_of)?;
                Some(NetworkEvent::AddressGone(index, self.own_changes.remover(OwnRemoval::Address(index), port)))
            }
            RTM_DELROUTE => {
                let index = attribute_of(payload.get(route::HEADER..)?, route::rta::OIF).and_then(u32_of)?;
                Some(NetworkEvent::RouteGone(index, self.own_changes.by(port)))
            }
            _ => None,
        }
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
fn receive(socket: &Socket, buffer: &mut Vec<u8>, events: &mut Vec<NetworkEvent>) -> Result<bool> {
    loop {
        buffer.clear();
        match socket.recv(buffer, 0) {
            Ok(_) => return Ok(true),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::AGAIN) => return Ok(false),
                Some(Errno::INTR) => {}
                Some(Errno::NOBUFS) => events.push(NetworkEvent::Overrun),
                _ => return Err(Error::new("read an event", error)),
            },
        }
    }
}

/// Every message about the ruleset names its table in its first attribute, but the one that ends a change, which has the
/// generation there.
fn rules_event(kind: u16, payload: &[u8], touched: &mut Vec<String>) -> Option<NetworkEvent> {
    const HEADER: usize = 4;
    const FIRST: u16 = 1;
    if kind >> 8 != NFTABLES_SUBSYSTEM {
        return None;
    }
    let value = attribute_of(payload.get(HEADER..)?, FIRST)?;
    if kind & 0xff == NEW_GENERATION {
        let generation = be32_of(value)?;
        return Some(NetworkEvent::Ruleset { tables: std::mem::take(touched), generation });
    }
    let table = text_of(value);
    if !touched.contains(&table) {
        touched.push(table);
    }
    None
}
