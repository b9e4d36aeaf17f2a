//! How a device goes from one process to another without missing a packet. Unix alone: the two processes share the open
//! interface and sockets, whose descriptors go from one to the other.
//!
//! Both processes hold the same TUN interface and the same UDP sockets, and at any moment one of them reads each. The
//! older process's sessions cannot be given away, as their counters must not be used twice; so the successor makes
//! its own, while the older one carries what comes on the old sessions.
//!
//! ```text
//!   older process (`predecessor`)                         successor (`successor`)
//!              ◀───────────────────────────────── Attached ── has the descriptors
//!   begins no handshake from now on
//!              ── Peers, AllPeers ──────────────────────────▶ makes the peers
//!              ── Datagram, Packet ─────────────────────────▶ handles what belongs to no old session, and makes
//!                                                             sessions with the peers that have one
//!              ◀────────────────────────────────── GiveTun ── has the sessions that it needs
//!   stops reading the interface
//!              ── TunGiven ─────────────────────────────────▶ reads the interface
//!   carries on until the old sessions are quiet, stops reading the sockets
//!              ── Farewell ─────────────────────────────────▶ reads the sockets, is alone
//! ```
//!
//! When either process ends, the other one sees the end of the channel and carries on alone.

mod channel;
mod message;
mod parts;
mod peer_record;
mod predecessor;
mod successor;
mod thread;

pub(crate) use channel::HandoverChannel;
pub(crate) use parts::ReceivedDevice;
pub(crate) use successor::attach;
pub(crate) use thread::HandoverThread;
