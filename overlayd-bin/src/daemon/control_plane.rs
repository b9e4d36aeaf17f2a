//! The control plane: it can end and begin again while the process, its backends and its socket stay.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use overlayd_core::engine::Engine;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    DaemonProcess, STATE, engine_config, handover,
    instance_lock::InstanceLock,
    listener_config, make_private,
    upgrade_gate::{UpgradeGate, UpgradeRequest},
};
use crate::platform::{
    listener::{ClientListener, drain},
    upgrade::HandoverBundle,
    watchdog,
};

/// The control plane at work: the store, the engine, and the socket on which it is asked.
pub(super) struct ControlPlane {
    // Dropped in this order: the lock goes last, so that no other process opens the store before the engine has closed it.
    pub(super) engine: Arc<Engine>,
    gate: Arc<UpgradeGate>,
    pub(super) requests: mpsc::Receiver<UpgradeRequest>,
    pub(super) listener: Arc<ClientListener>,
    pub(super) serving: JoinHandle<TaskTracker>,
    closing: CancellationToken,
    alive: AbortHandle,
    lock: InstanceLock,
}

/// Where clients come in.
pub(super) enum ListenerSource {
    /// At a socket of our own.
    New,
    /// At the socket of an older process.
    Inherited(HandoverBundle),
    /// At the socket that this process has served before.
    Kept(Arc<ClientListener>),
}

/// What is left of a plane that gave its work up.
pub(super) struct RetiredPlane {
    pub(super) listener: Arc<ClientListener>,
    serving: JoinHandle<TaskTracker>,
}

impl RetiredPlane {
    /// Leaves the socket to another process, and lets clients have the replies they wait for.
    pub(super) async fn leave(self) -> Result<()> {
        self.listener.leave();
        let connections = self.serving.await.context("the listener ended badly")?;
        drain(self.listener, connections).await;
        Ok(())
    }
}

impl ControlPlane {
    /// The socket is claimed before the engine touches the host, and answers only after the engine has caught up with it.
    pub(super) async fn start(daemon: &DaemonProcess, source: ListenerSource) -> Result<Self> {
        // Before the socket: of two daemons with one data directory, the second must not touch the first one's socket.
        let lock = InstanceLock::acquire(&daemon.data_dir)?;
        let config = listener_config(daemon.socket.clone(), &daemon.settings);
        let listener = match source {
            ListenerSource::New => Arc::new(ClientListener::bind(config).await?),
            ListenerSource::Inherited(bundle) => {
                handover::inherit(daemon.backends()?, bundle.devices).await?;
                Arc::new(ClientListener::inherit(config, bundle.listener)?)
            }
            ListenerSource::Kept(listener) => listener,
        };
        make_private(&daemon.data_dir.join(STATE))?;
        let config = engine_config(&daemon.data_dir, &daemon.settings);
        let engine = Engine::start(config, daemon.backends()?.clone()).await?;
        Ok(Self::serve(engine, listener, lock))
    }

    fn serve(engine: Arc<Engine>, listener: Arc<ClientListener>, lock: InstanceLock) -> Self {
        let (gate, requests) = UpgradeGate::new(Arc::clone(&engine));
        let closing = CancellationToken::new();
        let serving = tokio::spawn({
            let listener = Arc::clone(&listener);
            let gate = Arc::clone(&gate);
            let closing = closing.clone();
            async move { listener.serve(gate, closing).await }
        });
        let alive = tokio::spawn(watchdog::feed(Arc::clone(&engine))).abort_handle();
        Self { engine, gate, requests, listener, serving, closing, alive, lock }
    }

    /// Lets clients have the replies they wait for, and ends.
    pub(super) async fn end(self) -> Result<()> {
        // The watchdog asks for the status, which would count as a request under way.
        self.alive.abort();
        self.closing.cancel();
        let connections = self.serving.await.context("the listener ended badly")?;
        drain(self.listener, connections).await;
        Ok(())
    }

    /// Lets requests that are under way end and closes the store; the socket stays open and clients wait there. Where
    /// they do not end in time, everything is as it was. The connection of the caller is still open.
    pub(super) async fn retire(self, patience: Duration) -> Result<RetiredPlane, Box<Self>> {
        let Self { engine, gate, listener, serving, closing, alive, lock, requests } = self;
        // A request to be replaced that comes from now on is refused, since one is under way.
        drop(requests);
        alive.abort();
        closing.cancel();
        gate.retire();
        let ended = engine.ended();
        // Requests under way hold the engine; the last one of them closes the store.
        let remembered = Arc::downgrade(&engine);
        drop(engine);
        if timeout(patience, ended).await.is_err()
            && let Some(engine) = remembered.upgrade()
        {
            return Err(Box::new(Self::serve(engine, listener, lock)));
        }
        Ok(RetiredPlane { listener, serving })
    }
}
