//! Datagrams. What we know is answered at once, in the order of arrival; what others have to be asked for does not keep
//! the next query waiting.

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
                    reply.clear();
                    self.forward(query.to_vec(), from, wanted);
                }
            });
            batch.send(&self.socket, |reply, to| self.send_later(reply.to_vec(), to));
        }
        Ok(())
    }

    fn forward(&self, query: Vec<u8>, from: SocketAddr, wanted: ForwardRequest) {
        let (socket, service) = (Arc::clone(&self.socket), Arc::clone(&self.service));
        self.scope.spawn(async move {
            let mut reply = Vec::new();
            service.forward(&query, QueryTransport::Udp, wanted, &mut reply).await;
            send(&socket, &reply, from).await;
        });
    }

    /// For when the send buffer is full: it drains by itself, whatever the askers do.
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
