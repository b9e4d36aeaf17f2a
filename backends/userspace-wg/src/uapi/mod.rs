//! The control socket of a device as `wg(8)` speaks it (WireGuard cross-platform user space interface).

mod hex;
mod parse;
mod server;
mod show;
mod target;

pub use parse::{DeviceEdit, MalformedRequest, PeerMode, PeerSection, SetRequest};
pub(crate) use server::{ControlServer, remove_stale, socket_path};
pub(crate) use show::show;
pub(crate) use target::ControlTarget;
