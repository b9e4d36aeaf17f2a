//! The server's side of a connection: reads frames, has requests executed in their order, and writes replies and events.
//!
//! A request's way: [`serve_connection`] (`connection.rs`) cuts bytes into frames (`frame_reader.rs`), begins the request
//! when the order allows it (`order.rs`, `in_flight.rs`), has the handler execute it (`execute.rs`, `handler.rs`) and
//! queues the reply (`reply.rs`, `send_queue.rs`).
//!
//! Nothing here knows what carries the bytes: listening belongs to the binary. The client is a crate of its own,
//! `overlayd-client`; the frames that both speak are in [`crate::protocol`].

mod caller;
mod connection;
mod counters;
mod execute;
mod frame_reader;
mod handler;
mod in_flight;
mod limits;
mod order;
mod reply;
mod send_queue;

pub use caller::*;
pub use connection::*;
pub use counters::*;
pub use handler::*;
pub use limits::*;
pub use order::OrderGuard;
