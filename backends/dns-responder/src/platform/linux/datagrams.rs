//! Many datagrams with one system call each way (`recvmmsg(2)`, `sendmmsg(2)`).

use std::{
    cell::RefCell,
    io::{self, IoSlice, IoSliceMut},
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd as _,
};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use tokio::{io::Interest, net::UdpSocket};

use crate::platform::MAX_QUERY;

/// Datagrams of a batch.
const SIZE: usize = 32;

/// Buffers for a batch of queries and their answers.
pub(crate) struct DatagramBatch {
    received: MultiHeaders<SockaddrStorage>,
    sent: MultiHeaders<SockaddrStorage>,
    queries: Vec<Vec<u8>>,
    /// Length and sender of each query of the batch.
    arrived: Vec<(usize, SocketAddr)>,
    /// An answer for each query, empty for none.
    replies: Vec<Vec<u8>>,
}

/// Lends the thread's buffers: system calls need them at one place, and tasks move between threads.
pub(crate) fn with_batch<T>(work: impl FnOnce(&mut DatagramBatch) -> T) -> T {
    thread_local! {
        static BATCH: RefCell<DatagramBatch> = RefCell::new(DatagramBatch::new());
    }
    BATCH.with_borrow_mut(work)
}

impl DatagramBatch {
    fn new() -> Self {
        Self {
            received: MultiHeaders::preallocate(SIZE, None),
            sent: MultiHeaders::preallocate(SIZE, None),
            queries: vec![vec![0; MAX_QUERY]; SIZE],
            arrived: Vec::with_capacity(SIZE),
            replies: vec![Vec::new(); SIZE],
        }
    }

    /// Takes what has arrived; [`io::ErrorKind::WouldBlock`] when that is nothing.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let Self { received, queries, arrived, .. } = self;
        arrived.clear();
        socket.try_io(Interest::READABLE, || {
            let mut slices: Vec<[IoSliceMut<'_>; 1]> =
                queries.iter_mut().map(|query| [IoSliceMut::new(query)]).collect();
            let messages = recvmmsg(socket.as_raw_fd(), received, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
            // A sender without an address cannot be answered; UDP has none.
            arrived.extend(
                messages
                    .map(|message| (message.bytes, message.address.and_then(address)))
                    .map(|(len, from)| (len, from.unwrap_or_else(|| SocketAddr::from(([0; 4], 0))))),
            );
            Ok(())
        })
    }

    /// Has each query answered: query, sender, and where to write the answer; an empty one is not sent.
    pub(crate) fn answer(&mut self, mut answer: impl FnMut(&[u8], SocketAddr, &mut Vec<u8>)) {
        for (((len, from), query), reply) in self.arrived.iter().zip(&self.queries).zip(&mut self.replies) {
            answer(&query[..*len], *from, reply);
        }
    }

    /// Sends the answers; those that a full buffer has no room for go to `later`.
    pub(crate) fn send(&mut self, socket: &UdpSocket, mut later: impl FnMut(&[u8], SocketAddr)) {
        let Self { sent, arrived, replies, .. } = self;
        let answered = replies.iter().zip(arrived.iter()).filter(|(reply, _)| !reply.is_empty());
        let (replies, to): (Vec<&[u8]>, Vec<SocketAddr>) =
            answered.map(|(reply, (_, from))| (reply.as_slice(), *from)).unzip();
        let slices: Vec<[IoSlice<'_>; 1]> = replies.iter().map(|reply| [IoSlice::new(reply)]).collect();
        let addresses: Vec<Option<SockaddrStorage>> = to.iter().map(|to| Some((*to).into())).collect();
        // sendmmsg(2) may stop after any datagram, so go on from there until all are sent.
        let mut done = 0;
        while done < replies.len() {
            let rest = &addresses[done..];
            let outcome = socket.try_io(Interest::WRITABLE, || {
                let sent = sendmmsg(socket.as_raw_fd(), sent, &slices[done..], rest, [], MsgFlags::MSG_DONTWAIT)?;
                Ok(sent.count())
            });
            match outcome {
                Ok(count) => done += count.max(1),
                // The send buffer is full. Waiting here would stop all queries of this thread.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    replies.iter().zip(&to).skip(done).for_each(|(reply, to)| later(reply, *to));
                    return;
                }
                // The kernel tells of the first datagram only; the others still may go.
                Err(error) => {
                    tracing::debug!(to = %to[done], %error, "an answer could not be sent");
                    done += 1;
                }
            }
        }
    }
}

fn address(storage: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6))))
}
