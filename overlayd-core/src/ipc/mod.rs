//! How frames travel: the codec, the server's side of a connection, and the client.
//!
//! Nothing here knows what carries the bytes. Listening belongs to the binary; [`client`] has one connector per
//! platform.

mod call;
mod caller;
mod connection;
mod counters;
mod limits;
mod outbox;
mod reader;
mod reply;
mod turn;
mod under_way;

pub use caller::*;
pub use connection::*;
pub use counters::*;
pub use limits::*;
pub use turn::Turn;
