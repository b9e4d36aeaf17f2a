//! Accepts connections: who is admitted, how many at once, and what happens when accepting fails.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use overlayd_core::ipc::{Caller, ConnectionLimits, RequestHandler, ServerContext, SocketCounters, serve_connection};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    access::{AccessPolicy, PeerCredentials},
    claim::{SocketFile, claim},
    refuse::refuse,
};

/// Callers that are being told at the same time that they are not admitted; more are closed without a word.
const REFUSALS: usize = 16;
/// Shortest and longest pause after a failed accept.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// Time for open connections to get their last reply when the daemon stops.
const DRAIN: Duration = Duration::from_secs(10);

/// How to listen.
#[derive(Debug, Clone)]
pub(crate) struct ListenerConfig {
    /// Path of the socket.
    pub(crate) socket: PathBuf,
    /// Group that owns the socket and whose members may use it; one that does not exist is no error.
    pub(crate) group: Option<String>,
    /// What clients may cost.
    pub(crate) limits: ConnectionLimits,
    /// Where things are counted.
    pub(crate) counters: Arc<SocketCounters>,
}

/// A socket that is bound: clients can connect, and wait until [`ClientListener::serve`] is called.
#[derive(Debug)]
pub(crate) struct ClientListener {
    // Dropped in this order: the name goes before the socket, so that no client finds a socket without a daemon.
    file: SocketFile,
    socket: UnixListener,
    pub(super) access: AccessPolicy,
    pub(super) config: ListenerConfig,
}

impl ClientListener {
    /// Binds the socket; one that is in use, and what is no socket, is left alone.
    pub(crate) async fn bind(config: ListenerConfig) -> anyhow::Result<Self> {
        let group = config.group.as_deref();
        let access = AccessPolicy::new(group).with_context(|| format!("could not look up group {group:?}"))?;
        let (socket, file) = claim(&config.socket, access.gid()).await?;
        tracing::info!(socket = %config.socket.display(), group, gid = access.gid(), "listening");
        Ok(Self { file, socket, access, config })
    }

    /// Takes over a socket that an older daemon has bound and given away.
    pub(crate) fn inherit(config: ListenerConfig, socket: OwnedFd) -> anyhow::Result<Self> {
        let group = config.group.as_deref();
        let access = AccessPolicy::new(group).with_context(|| format!("could not look up group {group:?}"))?;
        // The flag belongs to the open file, which both processes share, but tokio wants it said.
        let socket = std::os::unix::net::UnixListener::from(socket);
        socket.set_nonblocking(true).context("could not use the socket of the older daemon")?;
        let socket = UnixListener::from_std(socket).context("could not use the socket of the older daemon")?;
        let file = SocketFile::of_another(&config.socket)?;
        tracing::info!(socket = %config.socket.display(), group, gid = access.gid(), "listening on, as the older daemon");
        Ok(Self { file, socket, access, config })
    }

    /// Leaves the socket's file in place for the process that listens there from now on.
    pub(crate) fn leave(&self) {
        self.file.leave();
    }

    /// Serves clients until `shutdown`; who connects later waits until a successor accepts. Returns the connections that
    /// are still about to end.
    pub(crate) async fn serve<H: RequestHandler>(&self, handler: Arc<H>, shutdown: CancellationToken) -> TaskTracker {
        let Self { socket, access, config, .. } = self;
        let ListenerConfig { limits, counters, .. } = config.clone();
        let gate = Arc::new(ConnectionGate {
            open: Arc::new(Semaphore::new(limits.connections)),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            access: access.clone(),
            service: ServerContext::new(handler, limits, counters, shutdown.clone()),
            full: AtomicBool::new(false),
        });
        let connections = TaskTracker::new();
        let mut serial = 0;
        let mut failures = AcceptFailures::default();
        loop {
            let accepted = tokio::select! {
                // A daemon that ends must not take one more client because both are ready.
                biased;
                () = shutdown.cancelled() => break,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    failures.over();
                    serial += 1;
                    Arc::clone(&gate).admit(stream, serial, &connections);
                }
                Err(error) => failures.pause(&error, &gate.service.counters, &shutdown).await,
            }
        }
        connections.close();
        connections
    }
}

/// Removes the socket, then lets clients have the replies they wait for.
pub(crate) async fn drain(listener: Arc<ClientListener>, connections: TaskTracker) {
    drop(listener);
    if timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "connections were cut off: their last request did not end in time");
    }
}

impl AsFd for ClientListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Decides about each connection.
struct ConnectionGate<H> {
    open: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    access: AccessPolicy,
    service: ServerContext<H>,
    /// Whether callers are being turned away because too many are there.
    full: AtomicBool,
}

impl<H: RequestHandler> ConnectionGate<H> {
    fn admit(self: Arc<Self>, stream: UnixStream, connection: u64, connections: &TaskTracker) {
        let counters = &self.service.counters;
        let peer = match PeerCredentials::of(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                counters.refused.add(1);
                tracing::warn!(%error, connection, "connection refused: the kernel does not say who it is");
                return;
            }
        };
        if let Some(reason) = self.access.refusal(&peer) {
            counters.refused.add(1);
            tracing::warn!(caller = %peer.identity, connection, "connection refused: the caller is not admitted");
            // Bounded: strangers must not be able to use up the descriptors that admitted clients need.
            if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
                let told = refuse(stream, Caller { connection, identity: peer.identity }, reason);
                connections.spawn(async move {
                    told.await;
                    drop(permit);
                });
            }
            return;
        }
        let caller = Caller { connection, identity: peer.identity };
        let Ok(permit) = Arc::clone(&self.open).try_acquire_owned() else {
            counters.over_limit.add(1);
            let limit = self.service.limits.connections;
            // One line for a storm of them; the rest are counted.
            if !self.full.swap(true, Ordering::Relaxed) {
                tracing::warn!(%caller, limit, "connections are refused: too many are open");
            }
            return;
        };
        self.full.store(false, Ordering::Relaxed);
        connections.spawn(async move {
            serve_connection(stream, caller, &self.service).await;
            drop(permit);
        });
    }
}

/// A row of failed accepts.
#[derive(Debug, Default)]
struct AcceptFailures {
    pause: Option<Duration>,
}

impl AcceptFailures {
    /// An accept succeeded.
    fn over(&mut self) {
        if self.pause.take().is_some() {
            tracing::info!("connections are accepted again");
        }
    }

    /// An accept failed, as for want of descriptors: tries again after a while, and says so once.
    async fn pause(&mut self, error: &io::Error, counters: &SocketCounters, shutdown: &CancellationToken) {
        counters.accept_failures.add(1);
        if self.pause.is_none() {
            tracing::error!(%error, "could not accept a connection; trying again until it works");
        }
        let pause = self.pause.map_or(PAUSES.0, |last| (last * 2).min(PAUSES.1));
        self.pause = Some(pause);
        tokio::select! {
            () = sleep(pause) => {}
            () = shutdown.cancelled() => {}
        }
    }
}
