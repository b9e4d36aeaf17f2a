//! The Unix socket.

mod accept;
mod access;
mod claim;
mod peer_groups;
mod refuse;
#[cfg(test)]
mod tests;

pub(crate) use accept::{ClientListener, ListenerConfig, drain};
