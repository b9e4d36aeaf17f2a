//! Connections. Each has a task to read and one to write, so none waits for another, and one client can only hold its
//! share of them (RFC 7766).

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

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
use crate::{answer::QueryVerdict, service::DnsService, wire::QueryTransport};

/// How long a connection may take for its next query, or to take an answer.
const IDLE: Duration = Duration::from_secs(30);
/// Most connections at a time.
const MAX_CONNECTIONS: usize = 1024;
/// Most connections at a time of one client.
const MAX_OF_A_CLIENT: usize = 64;
/// Queries of a connection that others are asked for at a time; it is not read from meanwhile.
const MAX_FORWARDED: usize = 32;
/// Answers that wait to be written to a connection.
const MAX_WAITING: usize = 32;
/// Pause after the host refused a connection, for want of file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until it is cut off.
pub(super) async fn serve(listener: TcpListener, service: Arc<DnsService>, scope: TaskScope) {
    let clients = Arc::new(ConnectionLimits::default());
    loop {
        match listener.accept().await {
            Ok((stream, from)) => match clients.admit(from.ip()) {
                Some(place) => {
                    let (service, inner) = (Arc::clone(&service), scope.clone());
                    scope.spawn(async move {
                        converse(stream, service, inner).await;
                        drop(place);
                    });
                }
                None => tracing::debug!(%from, "a connection too many"),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, service: Arc<DnsService>, scope: TaskScope) {
    // Answers are whole messages, so there is nothing to wait for.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection could not be prepared");
        return;
    }
    let (reader, writer) = stream.into_split();
    let (answers, waiting) = mpsc::channel(MAX_WAITING);
    scope.spawn(write_all(writer, waiting));
    if let Err(error) = read_all(reader, &service, &scope, answers).await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Answers query after query, those for others when they have answered.
async fn read_all(
    mut reader: OwnedReadHalf,
    service: &Arc<DnsService>,
    scope: &TaskScope,
    answers: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let forwarded = Arc::new(Semaphore::new(MAX_FORWARDED));
    loop {
        let query = timeout(IDLE, read_framed(&mut reader)).await??;
        let mut reply = Vec::new();
        match service.respond(&query, QueryTransport::Tcp, &mut reply) {
            // What is no query here is none later.
            QueryVerdict::Drop => return Err(io::ErrorKind::InvalidData.into()),
            QueryVerdict::Reply => answers.send(reply).await.map_err(|_| io::ErrorKind::BrokenPipe)?,
            QueryVerdict::Forward(wanted) => {
                let (service, answers) = (Arc::clone(service), answers.clone());
                let permit = Arc::clone(&forwarded).acquire_owned().await.map_err(io::Error::other)?;
                scope.spawn(async move {
                    service.forward(&query, QueryTransport::Tcp, wanted, &mut reply).await;
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
        // An answer is never longer than 64 KiB.
        let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
        match timeout(IDLE, writer.write_all(&framed)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return tracing::debug!(%error, "an answer could not be written"),
            Err(_) => return tracing::debug!("a client does not take its answers"),
        }
    }
}

/// How many connections each client has.
#[derive(Debug, Default)]
struct ConnectionLimits {
    connections: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place among the others.
struct ConnectionSlot {
    clients: Arc<ConnectionLimits>,
    ip: IpAddr,
}

impl ConnectionLimits {
    fn admit(self: &Arc<Self>, ip: IpAddr) -> Option<ConnectionSlot> {
        let mut connections = self.connections();
        let all: usize = connections.values().sum();
        let own = connections.entry(ip).or_default();
        if all >= MAX_CONNECTIONS || *own >= MAX_OF_A_CLIENT {
            return None;
        }
        *own += 1;
        Some(ConnectionSlot { clients: Arc::clone(self), ip })
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut connections = self.clients.connections();
        if let Some(own) = connections.get_mut(&self.ip) {
            *own -= 1;
            if *own == 0 {
                connections.remove(&self.ip);
            }
        }
    }
}
