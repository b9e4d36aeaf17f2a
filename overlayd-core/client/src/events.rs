//! What the daemon tells without being asked, as a program gets it.

use std::sync::Arc;

use overlayd_protocol::Event;
use tokio::sync::broadcast::{self, error::RecvError};

/// One thing that a program should know.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EventNotice {
    /// The daemon sent an event.
    Event(Arc<Event>),
    /// The connection was lost, and with it what the daemon would have sent. Connect again with
    /// [`Client::connect`](super::Client::connect) or any call, then read what matters from `status`.
    ConnectionLost {
        /// How it broke.
        reason: Arc<str>,
    },
    /// This many notices were dropped because the program did not take them in time. Read what matters from `status`.
    Missed(u64),
}

/// The notices for one part of a program. Each stream gets all of them.
#[derive(Debug)]
pub struct EventStream(broadcast::Receiver<EventNotice>);

impl EventStream {
    pub(super) fn new(receiver: broadcast::Receiver<EventNotice>) -> Self {
        Self(receiver)
    }

    /// Waits for the next notice; `None` once every clone of the client is dropped. May be dropped and called again
    /// without losing any.
    pub async fn next(&mut self) -> Option<EventNotice> {
        match self.0.recv().await {
            Ok(notice) => Some(notice),
            // Oldest first: a program that falls behind must not make the connection wait, nor its memory grow.
            Err(RecvError::Lagged(missed)) => Some(EventNotice::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}
