//! The protocol without input and output: peers, keys, timers and routing as plain state that is told the time, the
//! datagrams and the packets, and answers with datagrams and packets. Everything here runs as any user.

mod allowed_ips;
mod aside;
mod batch;
mod config;
mod cookie;
mod deadlines;
mod drops;
mod engine;
mod env;
mod handshake;
mod inbound;
mod index;
mod initiation;
mod ip;
mod keypair;
mod load;
mod mac;
mod message;
mod moment;
mod outbound;
mod peer;
mod run;
mod session;
mod snapshot;
mod timers;
mod wake;

#[cfg(test)]
mod tests;

pub use aside::{Known, Stray};
pub use batch::Batch;
pub use config::{Endpoint, PeerConfig, PeerEdit};
pub use drops::DropReason;
pub use engine::Engine;
pub use load::Limits;
pub use moment::{Moment, Now};
pub use outbound::{Freight, Lane};
pub use run::Run;
pub use snapshot::{EngineSnapshot, PeerSnapshot};
