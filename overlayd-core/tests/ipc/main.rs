//! The server's side of a connection and the client, against each other and against raw bytes.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod calls;
mod desk;
mod line;
mod long;
mod overlap;
mod raw;
mod reconnect;
