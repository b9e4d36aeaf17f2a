use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use overlayd_core::names::LinkName;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::ffi;
use crate::{
    io::offloads::TunOffload,
    noise::PacketBatch,
    offload::{FrameOffload, MergePolicy, SLACK, VNET_HEADER, coalesce},
};

/// Whether the interface is to be made, or is there from an earlier process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InterfaceOrigin {
    /// Makes it; one of that name is an error.
    New,
    /// Takes over the one that is there and has no process.
    Adopted,
}

/// What a read from the interface gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TunRead {
    /// Nothing is there now.
    Nothing,
    /// A frame, and what is left to do with it.
    Frame(FrameOffload),
    /// A frame that asks for what was never offered.
    Nonsense,
}

/// An open TUN interface.
#[derive(Debug)]
pub(crate) struct Tun {
    descriptor: OwnedFd,
    offload: TunOffload,
}

const TCP: u32 = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
const UDP: u32 = libc::TUN_F_USO4 | libc::TUN_F_USO6;

impl Tun {
    /// Opens the interface in the network namespace of the calling thread, with as much of `most` as the kernel has.
    pub(crate) fn open(name: &LinkName, origin: InterfaceOrigin, most: TunOffload) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
        let exclusive = match origin {
            InterfaceOrigin::New => libc::IFF_TUN_EXCL,
            InterfaceOrigin::Adopted => 0,
        };
        // The kernel takes the presence of a header from the process that attaches last, so an interface that an earlier
        // process used without one is no obstacle.
        let headers = if most == TunOffload::None { 0 } else { libc::IFF_VNET_HDR };
        ffi::attach_tun(descriptor.as_fd(), name.as_str(), libc::IFF_TUN | libc::IFF_NO_PI | headers | exclusive)?;
        let offload = negotiate(&descriptor, most)?;
        Ok(Self { descriptor, offload })
    }

    /// An interface that another process has opened, and may still read: the frames stay as they are.
    pub(crate) fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        // Frames under way have the form that the other process chose, so it is asked for and not changed.
        let headers = ffi::tun_flags(descriptor.as_fd())? & libc::IFF_VNET_HDR != 0;
        let offload = if headers { negotiate(&descriptor, TunOffload::TcpAndUdp)? } else { TunOffload::None };
        Ok(Self { descriptor, offload })
    }

    /// Lets the interface, with addresses and routes, outlive this process.
    pub(crate) fn persist(&self) -> io::Result<()> {
        ffi::persist_tun(self.descriptor.as_fd())
    }

    /// Reads one frame into the batch, without its header.
    pub(crate) fn read(&self, batch: &mut PacketBatch) -> io::Result<TunRead> {
        let slot = batch.next_slot();
        // The last packet of a frame is padded where it lies, so the bytes behind the frame are kept free.
        let room = slot.len() - SLACK;
        loop {
            let mut header = [0; VNET_HEADER];
            let len = match self.offload {
                TunOffload::None => rustix::io::read(&self.descriptor, &mut slot[..room]),
                TunOffload::Tcp | TunOffload::TcpAndUdp => {
                    let mut parts = [io::IoSliceMut::new(&mut header), io::IoSliceMut::new(&mut slot[..room])];
                    rustix::io::readv(&self.descriptor, &mut parts).map(|len| len.saturating_sub(VNET_HEADER))
                }
            };
            return match len {
                Ok(len) => {
                    batch.push(len, None);
                    Ok(FrameOffload::parse(&header).map_or(TunRead::Nonsense, TunRead::Frame))
                }
                Err(Errno::AGAIN) => Ok(TunRead::Nothing),
                Err(Errno::INTR) => continue,
                Err(errno) => Err(errno.into()),
            };
        }
    }

    /// Hands all packets to the host, and empties the batch; returns how many it did not take.
    pub(crate) fn deliver(&self, packets: &mut PacketBatch) -> u64 {
        let mut refused = 0;
        let mut write = |parts: &[IoSlice<'_>], packets: usize| {
            // An error concerns this frame alone: the interface may be down, or the kernel out of memory for a moment.
            if rustix::io::writev(&self.descriptor, parts).is_err() {
                refused += packets as u64;
            }
        };
        match self.offload {
            TunOffload::None => {
                packets.iter().for_each(|(packet, _)| {
                    write(&[IoSlice::new(packet)], 1);
                });
            }
            TunOffload::Tcp => coalesce(packets, MergePolicy::Tcp, |frame| write(frame.parts, frame.packets)),
            TunOffload::TcpAndUdp => {
                coalesce(packets, MergePolicy::TcpAndUdp, |frame| write(frame.parts, frame.packets))
            }
        }
        packets.clear();
        refused
    }
}

/// Finds what the kernel has. An interface keeps what an earlier process asked for, so having nothing is said too.
fn negotiate(descriptor: &OwnedFd, most: TunOffload) -> io::Result<TunOffload> {
    let set = |offloads| ffi::offload_tun(descriptor.as_fd(), offloads);
    if most == TunOffload::TcpAndUdp && set(TCP | UDP).is_ok() {
        return Ok(TunOffload::TcpAndUdp);
    }
    match most {
        TunOffload::None => set(0).map(|()| TunOffload::None),
        TunOffload::Tcp | TunOffload::TcpAndUdp => set(TCP).map(|()| TunOffload::Tcp),
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
pub(crate) mod fake {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    /// An interface that never has a packet.
    pub(crate) fn silent() -> Tun {
        Tun { descriptor: eventfd(0, EventfdFlags::NONBLOCK).unwrap(), offload: TunOffload::None }
    }
}
