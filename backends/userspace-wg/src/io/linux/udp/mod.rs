//! The UDP sockets of a device.

mod receive;
mod send;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) use receive::{ReceiveBuffer, ReceiveProgress};
use send::DatagramSender;

use super::ffi;
use crate::{
    io::offloads::{KernelOffloads, UdpReceive},
    noise::{DropReason, PacketBatch},
};

/// Room for a burst while the loop is busy, in bytes.
const BUFFER: i32 = 4 << 20;
/// A send that the host keeps waiting longer than this is given up.
const SEND_PATIENCE: Duration = Duration::from_millis(20);
/// How often another port is tried when the host chose one that the other family has in use.
const PORT_ATTEMPTS: usize = 16;

/// The version of IP that datagrams travel by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// One UDP port in both address families; IPv4 alone where the host has no IPv6.
#[derive(Debug)]
pub(crate) struct UdpSockets {
    v4: Socket,
    v6: Option<Socket>,
    port: u16,
    mark: AtomicU32,
    offloads: KernelOffloads,
    sender: DatagramSender,
}

impl UdpSockets {
    /// Binds `port` on all addresses; 0 finds one that is free in both families. `mark` goes onto every datagram for
    /// policy routing (`fwmark`), 0 for none. `most` is what may be used of the kernel's offloads.
    pub(crate) fn bind(port: u16, mark: u32, most: KernelOffloads) -> io::Result<Self> {
        // The host chooses a port that is free in IPv4; a socket of another program may have it in IPv6.
        for _ in 1..PORT_ATTEMPTS {
            match Self::try_bind(port, mark, most) {
                Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse => {}
                outcome => return outcome,
            }
        }
        Self::try_bind(port, mark, most)
    }

    fn try_bind(port: u16, mark: u32, most: KernelOffloads) -> io::Result<Self> {
        let v4 = open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), mark)?;
        let port = v4.local_addr()?.as_socket().map_or(port, |address| address.port());
        let v6 = match open(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), mark) {
            Ok(socket) => Some(socket),
            Err(error) if has_no_ipv6(&error) => None,
            Err(error) => return Err(error),
        };
        let receive = std::iter::once(&v4).chain(&v6).map(|socket| receive::negotiate(socket, most.receive)).min();
        let offloads = KernelOffloads { receive: receive.unwrap_or(UdpReceive::Single), ..most };
        // Both families are handled by one implementation in the kernel, so one socket is asked for both.
        let sender = DatagramSender::new(&v4, most.send);
        Ok(Self { v4, v6, port, mark: mark.into(), offloads, sender })
    }

    /// Sockets that another process has bound, and may still read: what it receives is left as it is.
    pub(crate) fn from_descriptors(v4: OwnedFd, v6: Option<OwnedFd>) -> io::Result<Self> {
        let v4 = Socket::from(v4);
        let v6 = v6.map(Socket::from);
        let port = v4.local_addr()?.as_socket().map_or(0, |address| address.port());
        let mark = v4.mark()?;
        let receive = receive::present(&v4);
        let offloads = KernelOffloads { receive, ..KernelOffloads::ALL };
        let sender = DatagramSender::new(&v4, offloads.send);
        Ok(Self { v4, v6, port, mark: mark.into(), offloads, sender })
    }

    /// More handles of the same sockets: IPv4 first.
    pub(crate) fn duplicates(&self) -> io::Result<Vec<OwnedFd>> {
        self.all().map(|socket| socket.as_fd().try_clone_to_owned()).collect()
    }

    /// The port in use.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Changes the mark of every datagram from now on.
    pub(crate) fn set_mark(&self, mark: u32) -> io::Result<()> {
        self.all().try_for_each(|socket| socket.set_mark(mark))?;
        self.mark.store(mark, Ordering::Relaxed);
        Ok(())
    }

    /// The mark of every datagram, 0 for none.
    pub(crate) fn mark(&self) -> u32 {
        self.mark.load(Ordering::Relaxed)
    }

    /// What may be used of the kernel's offloads, for sockets that replace these.
    pub(crate) fn offloads(&self) -> KernelOffloads {
        self.offloads
    }

    /// The socket of this family, if the host has the family.
    pub(in crate::io::linux) fn socket(&self, family: IpFamily) -> Option<&Socket> {
        match family {
            IpFamily::V4 => Some(&self.v4),
            IpFamily::V6 => self.v6.as_ref(),
        }
    }

    /// Takes what has arrived on the socket of this family, without waiting.
    pub(crate) fn receive(&self, family: IpFamily, arrivals: &mut ReceiveBuffer) -> io::Result<ReceiveProgress> {
        match self.socket(family) {
            Some(socket) => arrivals.fill(socket, self.offloads.receive),
            None => Ok(ReceiveProgress::Drained),
        }
    }

    /// Whether a few datagrams can be sent without waiting for the host.
    pub(crate) fn have_room(&self) -> io::Result<bool> {
        // An entry for the absent family is the other one again: poll(2) wants an open descriptor in each.
        let mut sockets =
            [&self.v4, self.v6.as_ref().unwrap_or(&self.v4)].map(|socket| PollFd::new(socket, PollFlags::OUT));
        match poll(&mut sockets, Some(&Timespec::default())) {
            Ok(_) => Ok(sockets.iter().all(|socket| socket.revents().contains(PollFlags::OUT))),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Socket> {
        std::iter::once(&self.v4).chain(&self.v6)
    }

    /// Sends the batch and leaves it as it is; `lost` is told of datagrams that the host did not take.
    pub(crate) fn send(&self, batch: &PacketBatch, lost: impl FnMut(DropReason, u64)) {
        self.sender.send(self, batch, lost);
    }

    fn for_address(&self, to: SocketAddr) -> Option<&Socket> {
        match to {
            SocketAddr::V4(_) => Some(&self.v4),
            SocketAddr::V6(_) => self.v6.as_ref(),
        }
    }
}

fn open(address: SocketAddr, mark: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // Without it the IPv6 socket claims the port in IPv4 as well, which the other socket has.
        socket.set_only_v6(true)?;
    }
    // A blocked neighbour look-up must not hold up the packets of all other peers.
    socket.set_write_timeout(Some(SEND_PATIENCE))?;
    if mark != 0 {
        socket.set_mark(mark)?;
    }
    grow_buffers(&socket)?;
    allow_fragments(&socket, address.is_ipv6())?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The host's limit holds only without `CAP_NET_ADMIN`; what it then grants is enough to work.
fn grow_buffers(socket: &Socket) -> io::Result<()> {
    let pairs = [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)];
    pairs.into_iter().try_for_each(|(forced, plain)| {
        ffi::set_option(socket.as_fd(), libc::SOL_SOCKET, forced, BUFFER)
            .or_else(|_| ffi::set_option(socket.as_fd(), libc::SOL_SOCKET, plain, BUFFER))
    })
}

/// An underlay that is narrower than planned fragments our datagrams rather than losing them, as with the kernel's
/// WireGuard.
fn allow_fragments(socket: &Socket, v6: bool) -> io::Result<()> {
    if v6 {
        ffi::set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)
    } else {
        ffi::set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
    }
}

fn has_no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use overlayd_netlink::{Netns, Rtnl, address, link};

    use super::*;

    /// No host answers at the other end of the cable, so datagrams wait for a neighbour.
    #[test]
    fn sockets_say_when_a_datagram_would_have_to_wait() {
        let (here, there) = (Netns::create().unwrap(), Netns::create().unwrap());
        let rtnl = Rtnl::inside(&here).unwrap();
        rtnl.run(link::NewVeth::pair("cable", "cable").into_netns(&there).request()).unwrap();
        let cable = rtnl.link("cable").unwrap().unwrap().index;
        rtnl.run(address::ensure(cable, "192.0.2.1/24".parse().unwrap())).unwrap();
        rtnl.run(link::up(cable)).unwrap();
        let far = Rtnl::inside(&there).unwrap();
        let far_end = far.link("cable").unwrap().unwrap().index;
        far.run(link::up(far_end)).unwrap();

        let sockets = here.run(|| UdpSockets::bind(0, 0, KernelOffloads::ALL)).unwrap().unwrap();
        sockets.v4.set_send_buffer_size(1).unwrap();
        assert!(sockets.have_room().unwrap());
        let to = SocketAddr::from(([192, 0, 2, 2], 9)).into();
        let refused = (0..1000).find_map(|_| sockets.v4.send_to(&[0; 1000], &to).err()).unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(!sockets.have_room().unwrap());
    }
}
