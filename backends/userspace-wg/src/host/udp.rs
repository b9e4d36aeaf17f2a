use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::ffi;
use crate::noise::Batch;

/// Room for a burst while the loop is busy, in bytes.
const BUFFER: i32 = 4 << 20;
/// A send that the host keeps waiting longer than this is given up.
const SEND_PATIENCE: Duration = Duration::from_millis(20);
/// How often another port is tried when the host chose one that the other family has in use.
const PORT_ATTEMPTS: usize = 16;

/// One UDP port in both address families; IPv4 alone where the host has no IPv6.
#[derive(Debug)]
pub(crate) struct Sockets {
    v4: Socket,
    v6: Option<Socket>,
    port: u16,
    mark: AtomicU32,
}

impl Sockets {
    /// Binds `port` on all addresses; 0 finds one that is free in both families. `mark` goes onto every datagram for
    /// policy routing (`fwmark`), 0 for none.
    pub(crate) fn bind(port: u16, mark: u32) -> io::Result<Self> {
        for _ in 1..PORT_ATTEMPTS {
            match Self::try_bind(port, mark) {
                Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse => {}
                outcome => return outcome,
            }
        }
        Self::try_bind(port, mark)
    }

    fn try_bind(port: u16, mark: u32) -> io::Result<Self> {
        let v4 = open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), mark)?;
        let port = v4.local_addr()?.as_socket().map_or(port, |address| address.port());
        let v6 = match open(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), mark) {
            Ok(socket) => Some(socket),
            Err(error) if has_no_ipv6(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { v4, v6, port, mark: mark.into() })
    }

    /// Sockets that another process has bound.
    pub(crate) fn given(v4: OwnedFd, v6: Option<OwnedFd>) -> io::Result<Self> {
        let (v4, v6) = (Socket::from(v4), v6.map(Socket::from));
        let port = v4.local_addr()?.as_socket().map_or(0, |address| address.port());
        let mark = v4.mark()?;
        Ok(Self { v4, v6, port, mark: mark.into() })
    }

    /// More handles of the same sockets: IPv4 first.
    pub(crate) fn handles(&self) -> io::Result<Vec<OwnedFd>> {
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

    /// The sockets, to wait on; twice the same where there is only one.
    pub(crate) fn pair(&self) -> [&Socket; 2] {
        [&self.v4, self.v6.as_ref().unwrap_or(&self.v4)]
    }

    fn all(&self) -> impl Iterator<Item = &Socket> {
        std::iter::once(&self.v4).chain(&self.v6)
    }

    /// Fills `batch` with what has arrived, without waiting.
    pub(crate) fn receive(&self, batch: &mut Batch) -> io::Result<()> {
        // A flood in one family leaves a quarter of the batch to the other.
        let reserve = batch.room() / 4;
        receive(&self.v4, batch, if self.v6.is_some() { reserve } else { 0 })?;
        self.v6.as_ref().map_or(Ok(()), |socket| receive(socket, batch, 0))
    }

    /// Sends one datagram.
    pub(crate) fn send(&self, datagram: &[u8], to: SocketAddr) -> Result<(), Errno> {
        let socket = match to {
            SocketAddr::V4(_) => &self.v4,
            SocketAddr::V6(_) => self.v6.as_ref().ok_or(Errno::AFNOSUPPORT)?,
        };
        loop {
            match rustix::net::sendto(socket, datagram, SendFlags::NOSIGNAL, &to) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Receives until there is nothing more or only `reserve` slots are free.
fn receive(socket: &Socket, batch: &mut Batch, reserve: usize) -> io::Result<()> {
    while batch.room() > reserve {
        match rustix::net::recvfrom(socket, batch.next_slot(), RecvFlags::DONTWAIT) {
            Ok((_, len, from)) => {
                let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                if from.is_some() {
                    batch.push(len, from);
                }
            }
            Err(Errno::AGAIN) => return Ok(()),
            // A refusal that an earlier datagram met; the socket itself is well.
            Err(Errno::INTR | Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn open(address: SocketAddr, mark: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
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
