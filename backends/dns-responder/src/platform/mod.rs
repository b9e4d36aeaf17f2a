//! What differs between operating systems. Everything else in this crate compiles for all of them.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod portable;

#[cfg(target_os = "linux")]
pub(crate) use self::linux::{DatagramBatch, find_port_owner, interface_index, with_batch};
#[cfg(not(target_os = "linux"))]
pub(crate) use self::portable::{DatagramBatch, find_port_owner, interface_index, with_batch};

/// Largest query taken, in bytes; the longest name with options and padding is far below.
const MAX_QUERY: usize = 4096;

/// Whether a TCP listener sets `SO_REUSEADDR`. On Unix it allows to listen again while old connections linger in
/// TIME_WAIT; on Windows it would let other programs take over the port.
pub(crate) const REUSE_ADDRESS: bool = cfg!(unix);
