//! Packets as users send them. Every probe runs on threads in the namespaces it is given.

mod capture;
mod ping;
mod tcp;
mod udp;

pub use capture::{Capture, Captured};
pub use ping::{ping, pings};
pub use tcp::{Transfer, transfer};
pub use udp::{Echo, Flow};
