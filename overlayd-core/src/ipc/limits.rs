//! Bounds on what a client may cost the daemon.

use std::time::Duration;

/// What a client may cost the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections open at the same time; one more is closed as soon as it is accepted.
    pub connections: usize,
    /// From the first byte of a frame to its last, and from a reply to when the client takes some of it. Between frames a
    /// connection may idle for ever.
    pub frame_deadline: Duration,
    /// From a request's arrival to its reply; a request that takes longer is answered `err`.
    pub request_deadline: Duration,
    /// Events that wait for a client that does not read; older ones are lost. Capacity of the handler's channel.
    pub event_queue: usize,
    /// Bytes of large frames that may be on their way at the same time, over all connections; further ones wait for
    /// their turn, within their deadline.
    pub unfinished: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            frame_deadline: Duration::from_secs(10),
            request_deadline: Duration::from_secs(30),
            event_queue: 1024,
            unfinished: 64 << 20,
        }
    }
}
