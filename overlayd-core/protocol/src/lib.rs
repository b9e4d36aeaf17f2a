//! The wire: plain serde types, one to one with the JSON that travels between a client and the daemon.
//!
//! Objects carry their discriminant in a tag member of their own (`frame`, `op`, `result`, `event`, `platform`,
//! `scope`) and payload members next to it. Encoding is canonical: compact, tag first, members in declaration order,
//! absent options and (where marked) empty lists left out. Decoding is tolerant: unknown members are ignored, members
//! come in any order, and a tagged object may also be spelt as an array with its tag first, as
//! `["request",9,{"op":"status"}]`. Numbers, booleans and addresses are never coerced.
//!
//! Strings stay strings where the wire does not check them (CIDRs, endpoints, keys, names). The engine turns them into
//! types at its door.
//!
//! What overlayd adds to the published protocol is marked *Addition* at each item. A client that does not know an
//! addition never meets it: added operations and handles are only ever sent by clients, added events only go to
//! connections that asked for them with [`Hello`].

mod attach;
#[cfg(feature = "codec")]
mod codec;
mod edge;
mod event;
mod finding;
mod frame;
mod handle;
mod hello;
mod nat;
mod peer;
mod peer_list;
mod port;
mod request;
mod response;
mod secret;
mod service;
mod setup;
mod status;

pub use attach::*;
#[cfg(feature = "codec")]
pub use codec::*;
pub use edge::*;
pub use event::*;
pub use finding::*;
pub use frame::*;
pub use handle::*;
pub use hello::*;
pub use nat::*;
pub use peer::*;
pub use peer_list::*;
pub use port::*;
pub use request::*;
pub use response::*;
pub use secret::*;
pub use service::*;
pub use setup::*;
pub use status::*;

// Options are left out, not written as `null`: the published encoder does so, and the golden files compare bytes.
/// Serde's `skip_serializing_if` for options that are left out when unset.
fn unset<T>(option: &Option<T>) -> bool {
    option.is_none()
}
