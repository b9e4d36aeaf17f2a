use std::{io, net::SocketAddr, os::fd::AsFd};

use rustix::{io::Errno, net::RecvFlags};
use socket2::Socket;

use super::super::ffi;
use crate::io::offloads::UdpReceive;

/// Bytes offered for one message: the largest datagram, or as many as the kernel puts together.
const SLOT: usize = 65_536;
/// Messages offered in one call while little arrives; more are offered when all were taken.
const FEW: usize = 4;
/// As much as still lies in a cache when it is decrypted, in bytes.
const MUCH: usize = 192 * 1024;

/// Whether a socket may have more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReceiveProgress {
    /// Nothing is left; who asks again waits first.
    Drained,
    /// There may be more.
    More,
}

/// What arrived on a socket in one go, in memory that is reused.
#[derive(Debug)]
pub(crate) struct ReceiveBuffer {
    store: Vec<u8>,
    messages: Vec<ffi::ReceivedInfo>,
    offered: usize,
}

/// One datagram, or several of one sender and of equal length but for the last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReceivedMessage<'a> {
    /// From where.
    pub(crate) from: SocketAddr,
    bytes: &'a [u8],
    segment: usize,
}

impl<'a> ReceivedMessage<'a> {
    /// Its datagrams in order.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        // `chunks` of nothing gives nothing, but an empty datagram is a datagram.
        let empty = self.bytes.is_empty().then_some(self.bytes);
        self.bytes.chunks(self.segment).chain(empty)
    }
}

impl ReceiveBuffer {
    pub(crate) fn new() -> Self {
        Self {
            store: vec![0; ffi::MOST_MESSAGES * SLOT],
            messages: Vec::with_capacity(ffi::MOST_MESSAGES),
            offered: FEW,
        }
    }

    /// What arrived, in order.
    pub(crate) fn messages(&self) -> impl Iterator<Item = ReceivedMessage<'_>> {
        self.messages.iter().zip(self.store.chunks_exact(SLOT)).filter_map(|(message, slot)| {
            let segment = message.segment.unwrap_or(SLOT);
            Some(ReceivedMessage { from: message.from?, bytes: &slot[..message.len], segment })
        })
    }

    /// Forgets what arrived.
    pub(crate) fn clear(&mut self) {
        self.messages.clear();
    }

    /// Whether nothing arrived.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many datagrams arrived.
    pub(crate) fn datagrams(&self) -> usize {
        self.messages.iter().map(|message| message.segment.map_or(1, |segment| message.len.div_ceil(segment))).sum()
    }

    pub(super) fn fill(&mut self, socket: &Socket, how: UdpReceive) -> io::Result<ReceiveProgress> {
        self.messages.clear();
        let outcome = match how {
            UdpReceive::Single => self.one_by_one(socket),
            UdpReceive::Many | UdpReceive::Coalesced => self.many(socket),
        };
        match outcome {
            Ok(supply) => Ok(supply),
            Err(Errno::AGAIN) => Ok(ReceiveProgress::Drained),
            // A refusal that an earlier datagram met; the socket itself is well.
            Err(Errno::INTR | Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH) => Ok(ReceiveProgress::More),
            Err(errno) => Err(errno.into()),
        }
    }

    fn many(&mut self, socket: &Socket) -> Result<ReceiveProgress, Errno> {
        let offer = &mut self.store[..self.offered * SLOT];
        let count = ffi::receive_many(socket.as_fd(), offer, SLOT, &mut self.messages)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let supply = if count < self.offered { ReceiveProgress::Drained } else { ReceiveProgress::More };
        let bytes: usize = self.messages.iter().map(|message| message.len).sum();
        self.offered = match supply {
            // More than this has left the cache by the time that it is decrypted.
            _ if bytes > MUCH => self.offered / 2,
            ReceiveProgress::More => self.offered * 2,
            ReceiveProgress::Drained => count,
        }
        .clamp(FEW, ffi::MOST_MESSAGES);
        Ok(supply)
    }

    fn one_by_one(&mut self, socket: &Socket) -> Result<ReceiveProgress, Errno> {
        for slot in self.store.chunks_exact_mut(SLOT) {
            match rustix::net::recvfrom(socket, slot, RecvFlags::DONTWAIT) {
                Ok((_, len, from)) => {
                    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                    self.messages.push(ffi::ReceivedInfo { len, segment: None, from });
                }
                // What arrived before is kept; the error comes again with the next call.
                Err(_) if !self.messages.is_empty() => return Ok(ReceiveProgress::More),
                Err(errno) => return Err(errno),
            }
        }
        Ok(ReceiveProgress::More)
    }
}

/// Asks for as much of `most` as the kernel has; returns what it is.
pub(super) fn negotiate(socket: &Socket, most: UdpReceive) -> UdpReceive {
    if most < UdpReceive::Coalesced {
        return most;
    }
    match ffi::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1) {
        Ok(()) => UdpReceive::Coalesced,
        Err(error) => {
            tracing::debug!(%error, "the kernel puts no datagrams together");
            UdpReceive::Many
        }
    }
}

/// How a socket that another process has opened receives.
pub(super) fn present(socket: &Socket) -> UdpReceive {
    match ffi::option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO) {
        Ok(on) if on != 0 => UdpReceive::Coalesced,
        Ok(_) | Err(_) => UdpReceive::Many,
    }
}
