//! Nat: the addresses under which others may reach this node.
//!
//! What is here are the host's own addresses ([`egress`]). Asking STUN servers, hole punching and relays are not: their
//! candidates are left out rather than made up, and no other path is chosen for a peer.

mod backend;
pub mod egress;

pub use backend::NatTraversal;
