//! The `Dns` backend: answers the overlay's zones and forwards everything else.
//!
//! From the outside in: `listen` has the sockets, [`answer`](answer::answer) turns the bytes of a query into the bytes
//! of an answer, `zones` is what is known, and `forward` asks others. Records live in a snapshot that is swapped as a
//! whole, so a query sees the records before a change or after it and never waits.

mod answer;
mod authority;
mod forward;
mod listen;
mod name;
mod plan;
mod platform;
mod responder;
mod reverse;
mod service;
mod wire;
mod zones;

pub use self::{
    answer::{QueryVerdict, answer, forwarded},
    forward::{ForwardOutcome, ForwardRequest},
    responder::DnsResponder,
    wire::{QueryTransport, UpstreamAnswer},
    zones::ZoneView,
};
