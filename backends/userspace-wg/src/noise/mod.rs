//! The protocol without input and output: peers, keys, timers and routing as plain state that is told the time, the
//! datagrams and the packets, and answers with datagrams and packets. Everything here runs as any user.

mod allowed_ips;
mod batch;
mod context;
mod cookie;
mod deadlines;
mod drops;
mod handover;
mod handshake;
mod inbound;
mod index;
mod initiation;
mod ip;
mod keypair;
mod load;
mod mac;
mod outbound;
mod peer;
mod peer_config;
mod peer_id;
mod peer_table;
mod receive_run;
mod session;
mod snapshot;
mod successor;
mod time;
mod timers;
mod tunnel;
mod wake;

#[cfg(test)]
mod tests;

pub use batch::PacketBatch;
pub use drops::DropReason;
pub use handover::ExportedPeer;
pub use load::HandshakeLimits;
pub use outbound::{SendBurst, SendSession};
pub use peer_config::{EndpointUpdate, PeerConfig, PeerEdit};
pub use receive_run::ReceiveRun;
pub use snapshot::{PeerSnapshot, TunnelSnapshot};
pub use successor::SuccessorTraffic;
pub use time::{CurrentTime, SteadyTime};
pub use tunnel::Tunnel;
