//! Connections. Each has a task to read and one to write, so none waits for another, and one client can only hold its
//! share of them (RFC 7766).

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc},
    time::timeout,
};

use super::TaskScope;
use crate::{answer::QueryVerdict, service::DnsService, shares::ClientShares, wire::QueryTransport};

/// How long a connection may take for its next query, or to take an answer.
const IDLE: Duration = Duration::from_secs(30);
/// Most connections at a time.
const MAX_CONNECTIONS: usize = 1024;
/// Most connections at a time of one client.
const MAX_OF_A_CLIENT: usize = 64;
/// Queries of one connection that upstreams are asked for at a time. While so many are open, nothing is read from it.
const MAX_FORWARDED: usize = 32;
/// Answers that wait to be written to a connection.
const MAX_WAITING: usize = 32;
/// Pause after the host refused a connection, for want of file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until it is cut off.
pub(super) async fn serve(listener: TcpListener, service: Arc<DnsService>, scope: TaskScope) {
    let connections = ClientShares::new(MAX_CONNECTIONS, MAX_OF_A_CLIENT);
    loop {
        match listener.accept().await {
            Ok((stream, from)) => match connections.take(from.ip()) {
                Some(share) => {
                    let service = Arc::clone(&service);
                    let inner = scope.clone();
                    scope.spawn(async move {
                        converse(stream, from.ip(), service, inner).await;
                        drop(share);
                    });
                }
                None => tracing::debug!(%from, "refused a connection: the limit is reached"),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of file descriptors: accept fails at once each time, and a loop without pause would take a core.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, client: IpAddr, service: Arc<DnsService>, scope: TaskScope) {
    // Nagle's algorithm would hold back an answer until the client acknowledged the one before. Answers are whole
    // messages, so there is nothing to gather.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection could not be prepared");
        return;
    }
    let (reader, writer) = stream.into_split();
    let (answers, waiting) = mpsc::channel(MAX_WAITING);
    scope.spawn(write_all(writer, waiting));
    if let Err(error) = read_all(reader, client, &service, &scope, answers).await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Answers query after query, those for others when they have answered.
async fn read_all(
    mut reader: OwnedReadHalf,
    client: IpAddr,
    service: &Arc<DnsService>,
    scope: &TaskScope,
    answers: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let forwarded = Arc::new(Semaphore::new(MAX_FORWARDED));
    loop {
        let query = timeout(IDLE, read_framed(&mut reader)).await??;
        let mut reply = Vec::new();
        match service.respond(&query, QueryTransport::Tcp, &mut reply) {
            // The frames can no longer be trusted, so there is no way to find the next query.
            QueryVerdict::Drop => return Err(io::ErrorKind::InvalidData.into()),
            QueryVerdict::Reply => answers.send(reply).await.map_err(|_| io::ErrorKind::BrokenPipe)?,
            QueryVerdict::Forward(wanted) => {
                let Some(share) = service.waiting_share(client) else {
                    service.refuse(&query, QueryTransport::Tcp, &mut reply);
                    answers.send(reply).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
                    continue;
                };
                let service = Arc::clone(service);
                let answers = answers.clone();
                let permit = Arc::clone(&forwarded).acquire_owned().await.map_err(io::Error::other)?;
                scope.spawn(async move {
                    service.forward(&query, QueryTransport::Tcp, wanted, &mut reply).await;
                    drop(share);
                    // The client may be gone by now.
                    drop(answers.send(reply).await);
                    drop(permit);
                });
            }
        }
    }
}

async fn read_framed(reader: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let len = reader.read_u16().await?;
    let mut message = vec![0; len.into()];
    reader.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_all(mut writer: OwnedWriteHalf, mut waiting: mpsc::Receiver<Vec<u8>>) {
    while let Some(message) = waiting.recv().await {
        // Length and message in one write, so that they leave in one segment (RFC 7766, section 8). An answer is never
        // longer than 64 KiB.
        let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
        match timeout(IDLE, writer.write_all(&framed)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return tracing::debug!(%error, "an answer could not be written"),
            Err(_) => return tracing::debug!("a client does not take its answers"),
        }
    }
}
