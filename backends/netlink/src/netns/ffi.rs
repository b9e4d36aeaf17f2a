//! The ioctls by which namespaces are found and told from other files: all of this crate's unsafe code.
#![allow(unsafe_code)]

use std::{
    ffi::{c_int, c_void},
    os::fd::{AsFd, FromRawFd, OwnedFd},
    ptr,
};

use rustix::{
    io,
    ioctl::{Ioctl, IoctlOutput, Opcode, Updater, ioctl, opcode},
};

/// Type of a namespace, by its file (`NS_GET_NSTYPE` of `linux/nsfs.h`).
const GET_NAMESPACE_TYPE: Opcode = opcode::none(0xb7, 3);
/// `CLONE_NEWNET` of `linux/sched.h`.
const NETWORK: c_int = 0x4000_0000;
/// `PIDFD_GET_NET_NAMESPACE` of `linux/pidfd.h`, Linux 6.11.
const GET_NETWORK_NAMESPACE: Opcode = opcode::none(0xff, 4);
/// `TUNSETIFF` and `TUNGETDEVNETNS` of `linux/if_tun.h`.
const SET_INTERFACE: Opcode = opcode::write::<c_int>(b'T', 202);
const GET_DEVICE_NAMESPACE: Opcode = opcode::none(b'T', 227);
/// `IFF_TUN` with `IFF_NO_PI`.
const TUN: u16 = 0x1001;
/// The kernel puts a free number for `%d`.
const NAME: &[u8] = b"zl-peek%d";

/// `struct ifreq` (`netdevice(7)`) as far as TUN devices use it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// An ioctl that takes no argument, and whose result is a number.
struct NumberOf<const OPCODE: Opcode>;

// SAFETY: the opcodes that this is used with take no argument, so that the kernel reads and writes no memory of this process.
unsafe impl<const OPCODE: Opcode> Ioctl for NumberOf<OPCODE> {
    type Output = c_int;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        ptr::null_mut()
    }

    unsafe fn output_from_ptr(result: IoctlOutput, _: *mut c_void) -> io::Result<c_int> {
        Ok(result)
    }
}

/// Whether the file stands for a network namespace, and not for another kind of namespace. An error where it stands for
/// none at all.
pub(super) fn is_network_namespace(file: impl AsFd) -> io::Result<bool> {
    // SAFETY: this opcode takes no argument and changes nothing; files that are no namespaces answer `ENOTTY`.
    let kind = unsafe { ioctl(file, NumberOf::<GET_NAMESPACE_TYPE>)? };
    Ok(kind == NETWORK)
}

/// The network namespace of the process that a pidfd stands for. Kernels before 6.11 answer `ENOTTY` or `EINVAL`.
pub(super) fn namespace_of_pidfd(pidfd: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: this opcode takes no argument and opens a descriptor.
    let descriptor = unsafe { ioctl(pidfd, NumberOf::<GET_NETWORK_NAMESPACE>)? };
    // SAFETY: the kernel has just opened this descriptor for us, and nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Makes a TUN device of an open `/dev/net/tun`, in the calling thread's namespace; its name.
pub(crate) fn create_tun(tun: impl AsFd) -> io::Result<String> {
    let mut request = InterfaceRequest { name: [0; 16], flags: TUN, rest: [0; 22] };
    request.name[..NAME.len()].copy_from_slice(NAME);
    // SAFETY: the request is a whole, initialised `struct ifreq` of 40 bytes, which this opcode reads and writes during
    // the call only.
    unsafe { ioctl(tun, Updater::<SET_INTERFACE, InterfaceRequest>::new(&mut request))? };
    let length = request.name.iter().position(|byte| *byte == 0).unwrap_or(request.name.len());
    String::from_utf8(request.name[..length].to_vec()).map_err(|_| io::Errno::ILSEQ)
}

/// The namespace that a TUN device is in.
pub(crate) fn namespace_of_tun(tun: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: this opcode takes no argument and opens a descriptor.
    let descriptor = unsafe { ioctl(tun, NumberOf::<GET_DEVICE_NAMESPACE>)? };
    // SAFETY: the kernel has just opened this descriptor for us, and nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
