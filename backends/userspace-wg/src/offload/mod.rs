//! Many packets as one: the frames of a TUN interface with `IFF_VNET_HDR`, cut into packets that fit a datagram, and
//! packets put together into frames. Plain functions on bytes, without any descriptor.

mod checksum;
mod coalesce;
mod header;
mod split;
mod transport;

#[cfg(test)]
mod tests;

pub use checksum::InternetChecksum;
pub use coalesce::{MergePolicy, MergedFrame, coalesce};
pub use header::{FrameOffload, PartialChecksum, SegmentKind, VNET_HEADER};
pub use split::{FrameSplit, SLACK};
