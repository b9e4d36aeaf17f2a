use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use overlayd_core::names::LinkName;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::ffi;

/// Whether the interface is to be made, or is there from an earlier process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Makes it; one of that name is an error.
    New,
    /// Takes over the one that is there and has no process.
    Adopted,
}

/// An open TUN interface: IP packets without any header before them.
#[derive(Debug)]
pub(crate) struct Tun(OwnedFd);

impl Tun {
    /// Opens the interface in the network namespace of the calling thread.
    pub(crate) fn open(name: &LinkName, origin: Origin) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let tun = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
        let exclusive = match origin {
            Origin::New => libc::IFF_TUN_EXCL,
            Origin::Adopted => 0,
        };
        ffi::attach_tun(tun.as_fd(), name.as_str(), libc::IFF_TUN | libc::IFF_NO_PI | exclusive)?;
        Ok(Self(tun))
    }

    /// Lets the interface, with addresses and routes, outlive this process.
    pub(crate) fn persist(&self) -> io::Result<()> {
        ffi::persist_tun(self.0.as_fd())
    }

    /// Reads one packet; `None` when there is none now.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            return match rustix::io::read(&self.0, &mut *buffer) {
                Ok(len) => Ok(Some(len)),
                Err(Errno::AGAIN) => Ok(None),
                Err(Errno::INTR) => continue,
                Err(errno) => Err(errno.into()),
            };
        }
    }

    /// Hands one packet to the host.
    pub(crate) fn write(&self, packet: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.0, packet)?;
        Ok(())
    }
}

impl From<OwnedFd> for Tun {
    /// An interface that somebody else has opened without packet headers and for reading without waiting.
    fn from(tun: OwnedFd) -> Self {
        Self(tun)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
