use std::{
    io,
    net::SocketAddr,
    os::fd::AsFd,
    sync::atomic::{AtomicU8, Ordering},
};

use rustix::{io::Errno, net::SendFlags};
use socket2::Socket;

use super::{
    super::ffi::{self, OutgoingMessage},
    UdpSockets,
};
use crate::{
    io::offloads::UdpSend,
    noise::{DropReason, PacketBatch},
};

/// Datagrams that the kernel takes as one, at most (`UDP_MAX_SEGMENTS` of its first versions).
const MOST_SEGMENTS: usize = 64;
/// Bytes that it takes as one, at most: what a UDP header can say, less the headers before it.
const MOST_BYTES: usize = 65_535 - 8 - 40;
/// Messages in one call.
const MESSAGES: usize = 16;

/// How datagrams are sent; what the host turns out not to be able to do is not tried again.
#[derive(Debug)]
pub(super) struct DatagramSender(AtomicU8);

/// Datagrams next to each other in a batch that go to one place, all of one length but for a shorter last one.
struct SegmentRun<'a> {
    message: OutgoingMessage<'a>,
    count: usize,
}

impl DatagramSender {
    pub(super) fn new(socket: &Socket, most: UdpSend) -> Self {
        // Zero is what a socket without the option has, so this asks only whether there is one.
        let segments =
            most == UdpSend::Segmented && ffi::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        let how = if segments { most } else { most.min(UdpSend::Many) };
        Self(AtomicU8::new(how as u8))
    }

    fn how(&self) -> UdpSend {
        match self.0.load(Ordering::Relaxed) {
            how if how == UdpSend::Segmented as u8 => UdpSend::Segmented,
            how if how == UdpSend::Many as u8 => UdpSend::Many,
            _ => UdpSend::Single,
        }
    }

    fn degrade(&self, to: UdpSend, error: &io::Error) {
        tracing::debug!(%error, how = ?to, "datagrams are sent in a plainer way from now on");
        // Only ever plainer: two threads may find different limits at once.
        self.0.fetch_min(to as u8, Ordering::Relaxed);
    }

    pub(super) fn send(&self, sockets: &UdpSockets, batch: &PacketBatch, mut lost: impl FnMut(DropReason, u64)) {
        let how = self.how();
        // A lone datagram, as most conversations have it, costs less by sendto(2) than by arrays for sendmmsg(2).
        if how == UdpSend::Single || batch.len() == 1 {
            for (datagram, to) in batch.iter() {
                send_one(sockets, datagram, to, &mut lost);
            }
            return;
        }
        let mut place = 0;
        while place < batch.len() {
            place += self.send_some(sockets, batch, place, how, &mut lost);
        }
    }

    /// Sends as many as go with one call; returns how many datagrams that were.
    fn send_some(
        &self,
        sockets: &UdpSockets,
        batch: &PacketBatch,
        first: usize,
        how: UdpSend,
        lost: &mut impl FnMut(DropReason, u64),
    ) -> usize {
        let mut messages = [OutgoingMessage { bytes: &[], segment: None, to: SocketAddr::from(([0; 4], 0)) }; MESSAGES];
        let mut counts = [0; MESSAGES];
        let mut filled = 0;
        let mut place = first;
        while filled < MESSAGES
            && let Some(run) = next_run(batch, place, how)
            && (filled == 0 || run.message.to.is_ipv4() == messages[0].to.is_ipv4())
        {
            messages[filled] = run.message;
            counts[filled] = run.count;
            place += run.count;
            filled += 1;
        }
        let messages = &messages[..filled];
        let counts = &counts[..filled];
        // One call has one socket, so a batch of both families is sent in parts.
        let Some(socket) = messages.first().and_then(|message| sockets.for_address(message.to)) else {
            let passed = place - first;
            lost(DropReason::SendFailed, passed as u64);
            return passed.max(1);
        };
        match ffi::send_many(socket.as_fd(), messages) {
            Ok(sent) => counts[..sent].iter().sum(),
            // Nothing was sent, so the same messages are tried again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => {
                if self.is_plainer_better(&error, &messages[0]) {
                    for at in first..first + counts[0] {
                        let (datagram, to) = batch.get(at);
                        send_one(sockets, datagram, to, lost);
                    }
                } else {
                    lost(DropReason::SendFailed, counts[0] as u64);
                }
                counts[0]
            }
        }
    }

    /// Whether the same datagrams may pass with calls of their own: a device on the way cannot segment (`EIO`), the call
    /// is not there at all, or the path is too narrow for these datagrams, which says nothing about others.
    fn is_plainer_better(&self, error: &io::Error, message: &OutgoingMessage<'_>) -> bool {
        match error.raw_os_error() {
            Some(libc::EIO) if message.segment.is_some() => self.degrade(UdpSend::Many, error),
            Some(libc::ENOSYS) => self.degrade(UdpSend::Single, error),
            Some(libc::EINVAL | libc::EMSGSIZE) => {}
            _ => return false,
        }
        true
    }
}

/// The run that begins at `first`; `None` at the end of the batch.
fn next_run(batch: &PacketBatch, first: usize, how: UdpSend) -> Option<SegmentRun<'_>> {
    if first >= batch.len() {
        return None;
    }
    let (datagram, to) = batch.get(first);
    let to = to?;
    let size = datagram.len();
    let mut bytes = size;
    let mut count = 1;
    if how == UdpSend::Segmented && size > 0 {
        while count < MOST_SEGMENTS && first + count < batch.len() {
            let (next, next_to) = batch.get(first + count);
            if next_to != Some(to) || next.is_empty() || next.len() > size || bytes + next.len() > MOST_BYTES {
                break;
            }
            count += 1;
            bytes += next.len();
            // UDP_SEGMENT cuts by one length, so that only the last datagram may be shorter.
            if next.len() < size {
                break;
            }
        }
    }
    let segment = if count > 1 { u16::try_from(size).ok() } else { None };
    Some(SegmentRun { message: OutgoingMessage { bytes: batch.span(first, count), segment, to }, count })
}

/// Sends one datagram with a call of its own.
fn send_one(sockets: &UdpSockets, datagram: &[u8], to: Option<SocketAddr>, lost: &mut impl FnMut(DropReason, u64)) {
    let Some(to) = to else { return };
    let outcome = loop {
        let Some(socket) = sockets.for_address(to) else { break Err(Errno::AFNOSUPPORT) };
        match rustix::net::sendto(socket, datagram, SendFlags::NOSIGNAL, &to) {
            Err(Errno::INTR) => {}
            outcome => break outcome.map(drop),
        }
    };
    match outcome {
        Ok(()) => {}
        Err(Errno::MSGSIZE) => lost(DropReason::TooBig, 1),
        Err(_) => lost(DropReason::SendFailed, 1),
    }
}
