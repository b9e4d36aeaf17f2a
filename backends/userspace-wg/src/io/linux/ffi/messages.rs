//! Many datagrams with one system call, and many that the kernel sees as one (`UDP_SEGMENT`, `UDP_GRO`; `udp(7)`).

use std::{
    io,
    mem::{MaybeUninit, zeroed},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

/// Messages in one call, at most.
pub(in crate::io::linux) const MOST_MESSAGES: usize = 64;

/// Room for one control message with a number.
const CONTROL: usize = 24;

/// A message to send.
#[derive(Clone, Copy)]
pub(in crate::io::linux) struct OutgoingMessage<'a> {
    /// One datagram, or several next to each other.
    pub(in crate::io::linux) bytes: &'a [u8],
    /// Length of each datagram but the last, where there are several.
    pub(in crate::io::linux) segment: Option<u16>,
    pub(in crate::io::linux) to: SocketAddr,
}

/// A message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io::linux) struct ReceivedInfo {
    pub(in crate::io::linux) len: usize,
    /// Length of each datagram but the last, where there may be several.
    pub(in crate::io::linux) segment: Option<usize>,
    /// `None` for an address of no known family.
    pub(in crate::io::linux) from: Option<SocketAddr>,
}

/// As `cmsghdr` needs it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct ControlBuffer([u8; CONTROL]);

const _: () = {
    // SAFETY: the macro only computes with the number.
    let (segment, coalesced) = unsafe { (libc::CMSG_SPACE(2), libc::CMSG_SPACE(4)) };
    assert!(segment as usize <= CONTROL && coalesced as usize <= CONTROL);
    assert!(align_of::<ControlBuffer>() >= align_of::<libc::cmsghdr>());
};

/// Sends the first messages, [`MOST_MESSAGES`] at most, and returns how many; an error is that of the first one.
pub(in crate::io::linux) fn send_many(socket: BorrowedFd<'_>, messages: &[OutgoingMessage<'_>]) -> io::Result<usize> {
    let messages = &messages[..messages.len().min(MOST_MESSAGES)];
    // Uninitialised: clearing 64 of each for every call would cost more than the call itself takes for one datagram.
    let mut names = [const { MaybeUninit::<SocketName>::uninit() }; MOST_MESSAGES];
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; MOST_MESSAGES];
    let mut controls = [const { MaybeUninit::<ControlBuffer>::uninit() }; MOST_MESSAGES];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MOST_MESSAGES];
    for (at, message) in messages.iter().enumerate() {
        let name = names[at].write(SocketName::of(message.to));
        let vector = vectors[at]
            .write(libc::iovec { iov_base: message.bytes.as_ptr().cast_mut().cast(), iov_len: message.bytes.len() });
        let control = controls[at].write(ControlBuffer([0; CONTROL]));
        let header = headers[at].write(header(name, vector));
        if let Some(segment) = message.segment {
            attach_segment(&mut header.msg_hdr, control, segment);
        }
    }
    // SAFETY: as many headers as the call is told are initialised, and each points at a name, a vector and a control
    // message that live on this stack until the call is over. The kernel only reads the bytes that the vectors name,
    // which `messages` borrows.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            messages.len() as libc::c_uint,
            libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Receives what is there, without waiting, into `slots` of equal length one after the other in `store`; at most
/// [`MOST_MESSAGES`]. What arrived is appended to `arrived`.
pub(in crate::io::linux) fn receive_many(
    socket: BorrowedFd<'_>,
    store: &mut [u8],
    slot: usize,
    arrived: &mut Vec<ReceivedInfo>,
) -> io::Result<usize> {
    let mut names = [const { MaybeUninit::<SocketName>::uninit() }; MOST_MESSAGES];
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; MOST_MESSAGES];
    let mut controls = [const { MaybeUninit::<ControlBuffer>::uninit() }; MOST_MESSAGES];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MOST_MESSAGES];
    let mut most = 0;
    for (at, slot) in store.chunks_exact_mut(slot).take(MOST_MESSAGES).enumerate() {
        let name = names[at].write(SocketName::empty());
        let vector = vectors[at].write(libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() });
        let control = controls[at].write(ControlBuffer([0; CONTROL]));
        let header = headers[at].write(header(name, vector));
        header.msg_hdr.msg_control = (&raw mut *control).cast();
        // The kernel writes how much of it was used, so it is set again for every call.
        header.msg_hdr.msg_controllen = CONTROL as _;
        most += 1;
    }
    // SAFETY: `most` headers are initialised, and each points at a name, a vector and a control message that live on
    // this stack until the call is over; the vectors name disjoint parts of `store`, which is borrowed exclusively.
    let count = unsafe {
        libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr().cast(), most, libc::MSG_DONTWAIT, ptr::null_mut())
    };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    for (header, name) in headers.iter().zip(&names).take(count) {
        // SAFETY: the first `most` of each were initialised above, and `count` is no more than that.
        let (header, name) = unsafe { (header.assume_init_ref(), name.assume_init_ref()) };
        // UDP_GRO reports the length only where datagrams were put together.
        let segment = segment_of(&header.msg_hdr);
        arrived.push(ReceivedInfo { len: header.msg_len as usize, segment, from: name.address() });
    }
    Ok(count)
}

/// A socket address of either family in the form of the C library.
#[repr(C)]
union SocketName {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl SocketName {
    fn empty() -> Self {
        // SAFETY: all zeros are a valid address of either family, and an unknown family's.
        unsafe { zeroed() }
    }

    fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self {
                v4: libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                },
            },
            SocketAddr::V6(v6) => Self {
                v6: libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                },
            },
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        // SAFETY: every value of this union was made from zeros or a whole address and then, at most, overwritten with
        // one by the kernel; all of its fields are plain numbers, and the family says which of them count.
        unsafe {
            match i32::from(self.family) {
                libc::AF_INET => {
                    let ip = Ipv4Addr::from(self.v4.sin_addr.s_addr.to_ne_bytes());
                    Some(SocketAddr::from((ip, u16::from_be(self.v4.sin_port))))
                }
                libc::AF_INET6 => {
                    let ip = Ipv6Addr::from(self.v6.sin6_addr.s6_addr);
                    let port = u16::from_be(self.v6.sin6_port);
                    let scope = self.v6.sin6_scope_id;
                    Some(SocketAddrV6::new(ip, port, 0, scope).into())
                }
                _ => None,
            }
        }
    }
}

/// A message with this name and these bytes and no control message.
fn header(name: &mut SocketName, vector: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all zeros are a valid, empty message.
    let mut header: libc::mmsghdr = unsafe { zeroed() };
    // SAFETY: the family is a plain number at the same place in every field.
    let family = unsafe { name.family };
    header.msg_hdr.msg_namelen = match i32::from(family) {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        _ => size_of::<libc::sockaddr_in6>(),
    } as libc::socklen_t;
    header.msg_hdr.msg_name = (&raw mut *name).cast();
    header.msg_hdr.msg_iov = &raw mut *vector;
    header.msg_hdr.msg_iovlen = 1;
    header
}

fn attach_segment(header: &mut libc::msghdr, control: &mut ControlBuffer, segment: u16) {
    header.msg_control = (&raw mut *control).cast();
    // SAFETY: the control message has room for one with two bytes of content and is aligned for its header, both of
    // which are asserted above, so the first header and its content lie within it.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(2) as _;
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = libc::SOL_UDP;
        (*message).cmsg_type = libc::UDP_SEGMENT;
        (*message).cmsg_len = libc::CMSG_LEN(2) as _;
        libc::CMSG_DATA(message).cast::<u16>().write_unaligned(segment);
    }
}

/// What the kernel says about the datagrams in a message.
fn segment_of(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the header is one that the kernel filled in: its control buffer is alive and as long as it says, and a
    // header found in it is followed by the content that its type promises.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        let found = !message.is_null()
            && (*message).cmsg_level == libc::SOL_UDP
            && (*message).cmsg_type == libc::UDP_GRO
            && (*message).cmsg_len as usize >= libc::CMSG_LEN(4) as usize;
        let segment = found.then(|| libc::CMSG_DATA(message).cast::<i32>().read_unaligned())?;
        usize::try_from(segment).ok().filter(|segment| *segment > 0)
    }
}
