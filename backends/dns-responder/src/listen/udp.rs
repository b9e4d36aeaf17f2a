//! Datagrams. What we know is answered at once, in the order of arrival; what others have to be asked for does not keep
//! the next query waiting.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::net::UdpSocket;

use super::Scope;
use crate::{
    answer::{Verdict, Wanted},
    query::Transport,
    service::Service,
};

/// Largest query taken: names, options and padding fit, and it is what a datagram can hold at most on the usual links.
const MAX_QUERY: usize = 4096;

/// Answers until it is cut off.
pub(super) async fn serve(socket: UdpSocket, service: Arc<Service>, scope: Scope) {
    let socket = Arc::new(socket);
    let (mut query, mut reply) = (vec![0; MAX_QUERY], Vec::with_capacity(MAX_QUERY));
    loop {
        let (len, from) = match socket.recv_from(&mut query).await {
            Ok(received) => received,
            // What an earlier answer ran into, such as a port that nobody listens on.
            Err(error) => {
                tracing::debug!(%error, "receiving failed");
                tokio::task::yield_now().await;
                continue;
            }
        };
        match service.respond(&query[..len], Transport::Udp, &mut reply) {
            Verdict::Drop => {}
            Verdict::Reply => send(&socket, &reply, from).await,
            Verdict::Forward(wanted) => {
                let task = forward(Arc::clone(&socket), Arc::clone(&service), query[..len].to_vec(), from, wanted);
                scope.spawn(task);
            }
        }
    }
}

async fn forward(socket: Arc<UdpSocket>, service: Arc<Service>, query: Vec<u8>, from: SocketAddr, wanted: Wanted) {
    let mut reply = Vec::new();
    service.forward(&query, Transport::Udp, wanted, &mut reply).await;
    send(&socket, &reply, from).await;
}

/// A full send buffer is waited for: it drains by itself, whatever the askers do.
async fn send(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    let sent = match socket.try_send_to(reply, to) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.send_to(reply, to).await,
        sent => sent,
    };
    if let Err(error) = sent {
        tracing::debug!(%to, %error, "an answer could not be sent");
    }
}
