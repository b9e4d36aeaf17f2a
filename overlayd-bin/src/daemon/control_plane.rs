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
    Daemon, STATE, engine_config,
    instance_lock::InstanceLock,
    listener_config, make_private,
    upgrade_gate::{Front, Order},
};
use crate::platform::{
    listener::{Listener, drain},
    upgrade::Gift,
    watchdog,
};

/// The control plane at work: the store, the engine, and the socket on which it is asked.
pub(super) struct Plane {
    // Dropped in this order: nobody else opens the store before the engine has closed it.
    pub(super) engine: Arc<Engine>,
    front: Arc<Front>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) listener: Arc<Listener>,
    pub(super) serving: JoinHandle<TaskTracker>,
    closing: CancellationToken,
    alive: AbortHandle,
    lock: InstanceLock,
}

/// Where clients come in.
pub(super) enum Door {
    /// At a socket of our own.
    New,
    /// At the socket of an older process.
    Inherited(Gift),
    /// At the socket that this process has served before.
    Kept(Arc<Listener>),
}

/// What is left of a plane that gave its work up.
pub(super) struct Retired {
    pub(super) listener: Arc<Listener>,
    serving: JoinHandle<TaskTracker>,
}

impl Retired {
    /// Leaves the socket to another process, and lets clients have the replies they wait for.
    pub(super) async fn leave(self) -> Result<()> {
        self.listener.leave();
        let connections = self.serving.await.context("the listener ended badly")?;
        drain(self.listener, connections).await;
        Ok(())
    }
}

impl Plane {
    /// The socket is claimed before the engine touches the host, and answers only after the engine has caught up with it.
    pub(super) async fn start(daemon: &Daemon, door: Door) -> Result<Self> {
        let lock = InstanceLock::acquire(&daemon.data_dir)?;
        let config = || listener_config(daemon.socket.clone(), &daemon.settings);
        let listener = match door {
            Door::New => Arc::new(Listener::bind(config()).await?),
            Door::Inherited(gift) => {
                if let Some(lender) = &daemon.wired()?.lender {
                    lender.inherit(gift.devices)?;
                }
                Arc::new(Listener::inherit(config(), gift.listener)?)
            }
            Door::Kept(listener) => listener,
        };
        make_private(&daemon.data_dir.join(STATE))?;
        let config = engine_config(&daemon.data_dir, &daemon.settings);
        let engine = Engine::start(config, daemon.wired()?.backends.clone()).await?;
        Ok(Self::serve(engine, listener, lock))
    }

    fn serve(engine: Arc<Engine>, listener: Arc<Listener>, lock: InstanceLock) -> Self {
        let (front, orders) = Front::new(Arc::clone(&engine));
        let closing = CancellationToken::new();
        let (at, handler, until) = (Arc::clone(&listener), Arc::clone(&front), closing.clone());
        let serving = tokio::spawn(async move { at.serve(handler, until).await });
        let alive = tokio::spawn(watchdog::feed(Arc::clone(&engine))).abort_handle();
        Self { engine, front, orders, listener, serving, closing, alive, lock }
    }

    /// Lets clients have the replies they wait for, and ends.
    pub(super) async fn end(self) -> Result<()> {
        self.alive.abort();
        self.closing.cancel();
        let connections = self.serving.await.context("the listener ended badly")?;
        drain(self.listener, connections).await;
        Ok(())
    }

    /// Lets requests that are under way end and closes the store; the socket stays open and clients wait there. Where
    /// they do not end in time, everything is as it was. The connection of whoever asked for this is still open.
    pub(super) async fn retire(self, patience: Duration) -> Result<Retired, Box<Self>> {
        let Self { engine, front, listener, serving, closing, alive, lock, orders } = self;
        drop(orders);
        alive.abort();
        closing.cancel();
        front.retire();
        let (ended, remembered) = (engine.ended(), Arc::downgrade(&engine));
        drop(engine);
        if timeout(patience, ended).await.is_err()
            && let Some(engine) = remembered.upgrade()
        {
            return Err(Box::new(Self::serve(engine, listener, lock)));
        }
        Ok(Retired { listener, serving })
    }
}
