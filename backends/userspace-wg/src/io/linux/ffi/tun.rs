use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// `struct ifreq` (`netdevice(7)`) as far as TUN devices use it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

/// Attaches the descriptor of `/dev/net/tun` to the interface of this name (`TUNSETIFF`).
pub(in crate::io::linux) fn attach_tun(tun: BorrowedFd<'_>, name: &str, flags: i32) -> io::Result<()> {
    let mut request = InterfaceRequest { name: [0; libc::IFNAMSIZ], flags: flags as libc::c_short, rest: [0; 22] };
    // The rest of the name stays zero, which ends it for the kernel.
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the descriptor is open for the call, and the request is a whole, initialised `struct ifreq` of 40 bytes
    // that the kernel reads and writes only during the call; a `LinkName` leaves room for the final zero.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How the interface behind the descriptor is attached (`TUNGETIFF`).
pub(in crate::io::linux) fn tun_flags(tun: BorrowedFd<'_>) -> io::Result<i32> {
    let mut request = InterfaceRequest { name: [0; libc::IFNAMSIZ], flags: 0, rest: [0; 22] };
    // SAFETY: the descriptor is open for the call, and the request is a whole, initialised `struct ifreq` of 40 bytes
    // that the kernel writes only during the call.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNGETIFF, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::from(request.flags)) }
}

/// Lets the interface outlive its descriptor (`TUNSETPERSIST`).
pub(in crate::io::linux) fn persist_tun(tun: BorrowedFd<'_>) -> io::Result<()> {
    command(tun, libc::TUNSETPERSIST, 1)
}

/// Says what is done with frames after they are read, so that the kernel leaves it undone (`TUNSETOFFLOAD`).
pub(in crate::io::linux) fn offload_tun(tun: BorrowedFd<'_>, offloads: u32) -> io::Result<()> {
    command(tun, libc::TUNSETOFFLOAD, offloads)
}

fn command(tun: BorrowedFd<'_>, request: libc::Ioctl, argument: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and the argument of these requests is a plain number.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), request, libc::c_ulong::from(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
