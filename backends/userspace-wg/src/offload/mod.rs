//! Many packets as one: the frames of a TUN interface with `IFF_VNET_HDR`, cut into packets that fit a datagram, and
//! packets put together into frames. Plain functions on bytes, without any descriptor.

mod checksum;
mod coalesce;
mod header;
mod split;
mod transport;

#[cfg(test)]
mod tests;

pub use checksum::Sum;
pub use coalesce::{Frame, Merging, gather};
pub use header::{Offload, PartialChecksum, Segments, VNET_HEADER};
pub use split::{Cut, SLACK};
