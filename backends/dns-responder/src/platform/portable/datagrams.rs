//! One datagram at a time, for hosts without calls for many.

use std::{cell::RefCell, io, net::SocketAddr};

use tokio::net::UdpSocket;

use crate::platform::MAX_QUERY;

/// Buffers for a query and its answer.
pub(crate) struct DatagramBatch {
    query: Vec<u8>,
    arrived: Option<(usize, SocketAddr)>,
    reply: Vec<u8>,
}

/// Lends the thread's buffers.
pub(crate) fn with_batch<T>(work: impl FnOnce(&mut DatagramBatch) -> T) -> T {
    thread_local! {
        static BATCH: RefCell<DatagramBatch> =
            RefCell::new(DatagramBatch { query: vec![0; MAX_QUERY], arrived: None, reply: Vec::new() });
    }
    BATCH.with_borrow_mut(work)
}

impl DatagramBatch {
    /// Takes what has arrived; [`io::ErrorKind::WouldBlock`] when that is nothing.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.arrived = None;
        self.arrived = Some(socket.try_recv_from(&mut self.query)?);
        Ok(())
    }

    /// Has the query answered: query, sender, and where to write the answer; an empty one is not sent.
    pub(crate) fn answer(&mut self, mut answer: impl FnMut(&[u8], SocketAddr, &mut Vec<u8>)) {
        if let Some((len, from)) = self.arrived {
            answer(&self.query[..len], from, &mut self.reply);
        }
    }

    /// Sends the answer, or has it sent later when the buffer is full.
    pub(crate) fn send(&mut self, socket: &UdpSocket, mut later: impl FnMut(&[u8], SocketAddr)) {
        let Some((_, to)) = self.arrived.filter(|_| !self.reply.is_empty()) else { return };
        match socket.try_send_to(&self.reply, to) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => later(&self.reply, to),
            Err(error) => tracing::debug!(%to, %error, "an answer could not be sent"),
        }
    }
}
