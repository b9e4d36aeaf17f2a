//! Opening a process's network namespace where looking into the process is forbidden.
//!
//! `/proc/PID/ns/net` and pidfds open for those who may trace the process (`ptrace(2)`, access mode
//! `PTRACE_MODE_READ`), which without `CAP_SYS_PTRACE` means: who has every capability that it has. The routing
//! interface asks for less: with `CAP_NET_ADMIN` over the namespace a link may be moved there by PID. So a TUN device,
//! which nobody ever brings up, is moved there, and then tells where it is (`TUNGETDEVNETNS`). It ends with its
//! descriptor.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use crate::{Error, Result, Rtnl, link};

const TUNSETIFF: libc::Ioctl = 0x4004_54ca_u32 as libc::Ioctl;
const TUNGETDEVNETNS: libc::Ioctl = 0x54e3 as libc::Ioctl;
/// The kernel puts a free number for `%d`.
const NAME: &[u8] = b"zl-peek%d";

/// `struct ifreq` (`netdevice(7)`) as far as TUN devices use it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

/// Opens the network namespace of the process with this PID. It takes the kernel a grace period, some milliseconds.
pub(super) fn open(pid: u32) -> Result<OwnedFd> {
    let failed = |e: io::Error| Error::new(format!("reach the network namespace of process {pid}"), e);
    let tun = File::options().read(true).write(true).open("/dev/net/tun").map_err(failed)?;
    let name = create(&tun).map_err(failed)?;
    let request = link::change(name.as_str()).into_netns_of(pid).request();
    Rtnl::here()?.run(request.named(format!("enter the network namespace of process {pid}")))?;
    whereabouts(&tun).map_err(failed)
}

/// Makes the device, in the calling thread's namespace; its name.
fn create(tun: impl AsFd) -> io::Result<String> {
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    let mut request = InterfaceRequest { name: [0; libc::IFNAMSIZ], flags, rest: [0; 22] };
    request.name[..NAME.len()].copy_from_slice(NAME);
    // SAFETY: the descriptor is open for the call, and the request is a whole, initialised `struct ifreq` of 40 bytes
    // that the kernel reads and writes only during the call.
    let result = unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), TUNSETIFF, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let length = request.name.iter().position(|byte| *byte == 0).unwrap_or(libc::IFNAMSIZ);
    String::from_utf8(request.name[..length].to_vec()).map_err(io::Error::other)
}

/// The namespace that the device is in.
fn whereabouts(tun: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open for the call, which takes no argument.
    let result = unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), TUNGETDEVNETNS) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}
