//! The `Dns` backend: answers the overlay's zones and forwards everything else.
//!
//! From the outside in: `listen` has the sockets and hands each query to `service`; `answer` decides what becomes of
//! it; `authority` answers from `zones`, and `forward` asks upstreams. The format of messages is in `wire`, below all of
//! them. Records live in a snapshot that is swapped as a whole, so a query sees the records before a change or after it
//! and never waits.

mod answer;
mod authority;
mod forward;
mod handover;
mod listen;
mod name;
mod plan;
mod platform;
mod responder;
mod reverse;
mod service;
mod shares;
mod wire;
mod zones;

pub use self::{
    answer::{QueryVerdict, answer, forwarded},
    forward::{ForwardOutcome, ForwardRequest},
    responder::DnsResponder,
    wire::{QueryTransport, UpstreamAnswer},
    zones::ZoneView,
};
