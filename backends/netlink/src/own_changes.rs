//! What this process itself asked the kernel to change, so that a [`NetworkWatch`](crate::watch::NetworkWatch) can tell it from what
//! others changed.
//!
//! The kernel says with most events which socket asked for it, by the socket's port number. It does not for all: the end
//! of one veth interface takes the other along, and that event names no socket. So removals are noted by what they remove,
//! before they are sent, and the note is struck out when the event arrives.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use overlayd_core::sync::lock;

/// How many sockets, and how many removals, are remembered. A socket's number has to outlive the socket, because an
/// event may be read later than the socket is closed; far fewer are ever open at once.
const MOST_KEPT: usize = 4096;

/// Changes that this process asked for. All clones share one record; backends that change one host share it as well.
#[derive(Debug, Clone, Default)]
pub struct OwnChanges(Arc<ChangeRecord>);

#[derive(Debug, Default)]
struct ChangeRecord {
    /// Port numbers of our sockets.
    ports: Mutex<VecDeque<u32>>,
    /// Removals that were sent and that no event has told of yet.
    removals: Mutex<VecDeque<OwnRemoval>>,
}

/// What a request removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnRemoval {
    /// The link of this index.
    Link(u32),
    /// An address of the link of this index.
    Address(u32),
}

/// On whose request something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangedBy {
    /// This process's, by an [`Rtnl`](crate::Rtnl) that shares the record.
    Us,
    /// Another program's.
    Another,
    /// No program's: the kernel did it because of something else.
    Kernel,
}

impl OwnChanges {
    /// Whether this process has asked for the link's end, and no event has told of it yet.
    pub fn is_being_deleted(&self, link: u32) -> bool {
        lock(&self.0.removals).contains(&OwnRemoval::Link(link))
    }

    /// Notes that what the socket of this port number asks for is done by us.
    pub(crate) fn note_socket(&self, port: u32) {
        let mut ports = lock(&self.0.ports);
        if !ports.contains(&port) {
            keep(&mut ports, port);
        }
    }

    /// Notes a removal that is about to be sent.
    pub(crate) fn note_removal(&self, removal: OwnRemoval) {
        keep(&mut lock(&self.0.removals), removal);
    }

    /// Who removed this, by an event from the socket of this port number. Our own note of it is struck out.
    pub(crate) fn remover(&self, removal: OwnRemoval, port: u32) -> ChangedBy {
        let mut removals = lock(&self.0.removals);
        let noted = removals.iter().position(|known| *known == removal);
        let noted = noted.and_then(|at| removals.remove(at)).is_some();
        // A removal without a socket is someone's all the same: at least the other end of the link was removed.
        if noted || self.by(port) == ChangedBy::Us { ChangedBy::Us } else { ChangedBy::Another }
    }

    /// On whose request an event happened, by the port number that it names.
    pub(crate) fn by(&self, port: u32) -> ChangedBy {
        match port {
            0 => ChangedBy::Kernel,
            port if lock(&self.0.ports).contains(&port) => ChangedBy::Us,
            _ => ChangedBy::Another,
        }
    }
}

fn keep<T>(kept: &mut VecDeque<T>, new: T) {
    if kept.len() == MOST_KEPT {
        kept.pop_front();
    }
    kept.push_back(new);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_is_ours_once_and_also_when_the_kernel_names_no_socket() {
        let own = OwnChanges::default();
        own.note_removal(OwnRemoval::Link(7));
        assert!(own.is_being_deleted(7) && !own.is_being_deleted(8));
        assert_eq!(own.remover(OwnRemoval::Link(7), 0), ChangedBy::Us);
        assert_eq!(own.remover(OwnRemoval::Link(7), 0), ChangedBy::Another);
    }

    #[test]
    fn sockets_tell_whose_an_event_is() {
        let own = OwnChanges::default();
        own.note_socket(42);
        assert_eq!([own.by(42), own.by(43), own.by(0)], [ChangedBy::Us, ChangedBy::Another, ChangedBy::Kernel]);
        assert_eq!(own.clone().remover(OwnRemoval::Address(1), 42), ChangedBy::Us);
    }

    #[test]
    fn the_record_does_not_grow_for_ever() {
        let own = OwnChanges::default();
        for port in 1..=MOST_KEPT as u32 + 1 {
            own.note_socket(port);
        }
        assert_eq!([own.by(1), own.by(2)], [ChangedBy::Another, ChangedBy::Us]);
    }
}
