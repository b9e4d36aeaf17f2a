//! Packets as users send them. Every probe runs on threads in the namespaces it is given.

mod capture;
mod ping;
mod pulse;
mod reach;
mod stream;
mod tcp;
mod udp;

pub use capture::{CapturedPacket, PacketCapture};
pub use ping::{ping, pings};
pub use pulse::{PacketPulse, PulseRecord};
pub use reach::{ReachPath, ReachService, WAYS, is_cut_off, reaches};
pub use stream::{StreamTally, TcpConversation, TcpStreamProbe};
pub use tcp::{TcpTransfer, Throughput, throughput, transfer};
pub use udp::{UdpEcho, UdpExchange, UdpFlow};

/// Plaintext that every ping of at least 56 bytes and every transfer carries; what a capture looks for.
pub const MARKER: [u8; 24] =
    [24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47];
