//! Queries over UDP. What is known is answered at once, in the order of arrival; a query that an upstream has to be
//! asked for does not keep the next one waiting.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::net::UdpSocket;

use super::TaskScope;
use crate::{
    answer::QueryVerdict,
    forward::ForwardRequest,
    platform::{DatagramBatch, with_batch},
    service::DnsService,
    wire::QueryTransport,
};

/// Batches in a row before other tasks of the thread have their turn.
const ROUNDS: usize = 8;

/// Answers until it is cut off.
pub(super) async fn serve(socket: UdpSocket, service: Arc<DnsService>, scope: TaskScope) {
    let server = UdpServer { socket: Arc::new(socket), service, scope };
    loop {
        let more = match server.socket.readable().await {
            Ok(()) => with_batch(|batch| server.answer_waiting(batch)),
            Err(error) => Err(error),
        };
        if let Err(error) = more {
            tracing::debug!(%error, "receiving failed");
        }
        // A socket that is always readable would otherwise keep this thread from every other task.
        tokio::task::yield_now().await;
    }
}

struct UdpServer {
    socket: Arc<UdpSocket>,
    service: Arc<DnsService>,
    scope: TaskScope,
}

impl UdpServer {
    /// Answers what has arrived, without waiting.
    fn answer_waiting(&self, batch: &mut DatagramBatch) -> io::Result<()> {
        for _ in 0..ROUNDS {
            match batch.receive(&self.socket) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            batch.answer(|query, from, reply| match self.service.respond(query, QueryTransport::Udp, reply) {
                QueryVerdict::Drop => reply.clear(),
                QueryVerdict::Reply => {}
                QueryVerdict::Forward(wanted) => {
                    self.forward(query, from, wanted, reply);
                }
            });
            batch.send(&self.socket, |reply, to| self.send_later(reply.to_vec(), to));
        }
        Ok(())
    }

    /// Has an upstream asked and the answer sent then. `reply` is what to answer now: nothing, or a failure when the
    /// client has too many such queries open.
    fn forward(&self, query: &[u8], from: SocketAddr, wanted: ForwardRequest, reply: &mut Vec<u8>) {
        // Taken before a task exists and the query is copied: what a flood can make us keep has to be bounded here.
        let Some(share) = self.service.waiting_share(from.ip()) else {
            return self.service.refuse(query, QueryTransport::Udp, reply);
        };
        reply.clear();
        let query = query.to_vec();
        let socket = Arc::clone(&self.socket);
        let service = Arc::clone(&self.service);
        self.scope.spawn(async move {
            let mut reply = Vec::new();
            service.forward(&query, QueryTransport::Udp, wanted, &mut reply).await;
            drop(share);
            send(&socket, &reply, from).await;
        });
    }

    /// For when the send buffer is full. It drains by itself, so this needs no bound: no client can keep it full.
    fn send_later(&self, reply: Vec<u8>, to: SocketAddr) {
        let socket = Arc::clone(&self.socket);
        self.scope.spawn(async move { send(&socket, &reply, to).await });
    }
}

async fn send(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(reply, to).await {
        tracing::debug!(%to, %error, "an answer could not be sent");
    }
}
