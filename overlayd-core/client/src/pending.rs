//! The calls that wait for a reply.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use overlayd_protocol::Response;
use tokio::sync::{broadcast, oneshot};

use super::{ClientError, ClientResult, EventNotice};

/// The calls of one connection that wait for a reply, by id.
pub(super) struct PendingCalls {
    endpoint: String,
    table: Mutex<CallTable>,
    events: broadcast::Sender<EventNotice>,
}

#[derive(Default)]
struct CallTable {
    last_id: u64,
    calls: HashMap<u64, PendingCall>,
    /// How the connection broke, once it has.
    broken: Option<Arc<str>>,
}

/// One call.
pub(super) struct PendingCall {
    pub(super) op: &'static str,
    pub(super) reply: oneshot::Sender<ClientResult<Response>>,
}

/// A place in the table, given back also when the call is dropped.
pub(super) struct CallTicket<'a> {
    pending: &'a PendingCalls,
    pub(super) id: u64,
}

impl Drop for CallTicket<'_> {
    fn drop(&mut self) {
        self.pending.table().calls.remove(&self.id);
    }
}

impl PendingCalls {
    pub(super) fn new(endpoint: String, events: broadcast::Sender<EventNotice>) -> Self {
        Self { endpoint, table: Mutex::default(), events }
    }

    /// The table is never left half-changed, so a panic elsewhere does not spoil it.
    fn table(&self) -> MutexGuard<'_, CallTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.table().broken.is_some()
    }

    pub(super) fn enter(&self, call: PendingCall) -> ClientResult<CallTicket<'_>> {
        let mut table = self.table();
        if table.broken.is_some() {
            // `transport_error` takes the lock again.
            drop(table);
            return Err(self.transport_error());
        }
        // Ids begin at 1 and count up on each connection, as those of the published client do.
        table.last_id = table.last_id.wrapping_add(1);
        let id = table.last_id;
        table.calls.insert(id, call);
        Ok(CallTicket { pending: self, id })
    }

    /// Gives its reply to the call with this id. A call that was given up has no place any more.
    pub(super) fn answer(&self, id: u64, reply: impl FnOnce(&PendingCall) -> ClientResult<Response>) {
        let Some(call) = self.table().calls.remove(&id) else {
            // Its caller timed out or was dropped; the daemon has executed the request all the same.
            tracing::debug!(id, "dropped a reply: no call waits for it");
            return;
        };
        let reply = reply(&call);
        if call.reply.send(reply).is_err() {
            tracing::debug!(id, "the call was given up as its reply came");
        }
    }

    /// Passes an event on to the program.
    pub(super) fn notify(&self, notice: EventNotice) {
        if self.events.send(notice).is_err() {
            tracing::trace!("dropped an event: no part of the program asked for events");
        }
    }

    /// Fails all calls that wait, and those to come. The first reason stands.
    pub(super) fn break_off(&self, reason: &str) {
        let mut table = self.table();
        let calls = std::mem::take(&mut table.calls);
        let first = table.broken.is_none().then(|| Arc::<str>::from(reason));
        if let Some(reason) = &first {
            table.broken = Some(Arc::clone(reason));
        }
        // Before the calls learn of it: dropping them wakes tasks that may look at the table.
        drop(table);
        drop(calls);
        // Reader and writer both end with the connection; the program is told once.
        if let Some(reason) = first {
            self.notify(EventNotice::ConnectionLost { reason });
        }
    }

    pub(super) fn transport_error(&self) -> ClientError {
        let reason = self.table().broken.clone().unwrap_or_else(|| "it was given up".into());
        ClientError::Transport { endpoint: self.endpoint.clone(), reason }
    }
}
