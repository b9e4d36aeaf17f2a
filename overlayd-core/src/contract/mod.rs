//! The four traits: all that the core knows of the host.
//!
//! Every implementation keeps these rules, and the contract suites in `overlayd-testkit` check them for fakes
//! and real backends alike:
//!
//! 1. Saying the same thing twice changes nothing.
//! 2. Removing what is absent succeeds.
//! 3. A call that fails leaves nothing behind of what it was asked to create.
//! 4. What is created on the host carries the instance's mark, and its name derives from the ids in the plan, so that
//!    removal needs no memory; what does not carry the mark is never touched.
//! 5. A call may be dropped half-way (its future cancelled, its process killed), and the next one copes.
//! 6. What cannot be done is [`Error::Unsupported`], never a false `Ok`.
//! 7. A promise of isolation that cannot be kept is an error: isolation fails closed.
//! 8. Re-applying never resets what a peer learned by roaming ([`PeerEndpoint::Keep`]).
//!
//! Calls for different objects may arrive concurrently; calls for the same object arrive in order. Every call runs
//! under a deadline of the caller's, so an implementation needs no time-outs of its own.
//!
//! A backend that holds something in this process returns a [`Handover`], by which a successor gets it.

mod attach;
mod dns;
mod drift;
mod error;
mod finding;
mod handover;
mod ids;
mod nat;
mod overlay;
mod peer_changes;

pub use attach::*;
pub use dns::*;
pub use drift::*;
pub use error::*;
pub use finding::*;
pub use handover::*;
pub use ids::*;
pub use nat::*;
pub use overlay::*;
pub use peer_changes::*;

pub use crate::protocol::PortProtocol;
