//! The system calls that no safe wrapper offers.
#![allow(unsafe_code)]

mod messages;
mod tun;

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

pub(super) use messages::{MOST_MESSAGES, OutgoingMessage, ReceivedInfo, receive_many, send_many};
pub(super) use tun::{attach_tun, offload_tun, persist_tun, tun_flags};

/// Sets an integer option of a socket.
pub(super) fn set_option(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and pointer and length describe one initialised integer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads an integer option of a socket.
pub(super) fn option(socket: BorrowedFd<'_>, level: i32, option: i32) -> io::Result<i32> {
    let mut value = 0;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the descriptor is open for the call, and pointer and length describe one integer that may be written.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
