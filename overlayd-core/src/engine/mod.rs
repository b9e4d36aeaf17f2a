//! The engine: it records what is asked for, plans, has the host changed, and reports.
//!
//! Decisions are made on [`Desired`](crate::desired::Desired) under a mutex that is held for microseconds. The record is
//! durable before a backend is touched. Work on the host runs outside of the mutex: concurrently for different objects, in
//! order for the same one, and always under a deadline.
//!
//! `dispatch` gives a request to one of the [`areas`]. Each area has its own state, and works on what all share in
//! [`context`]: the ledger, the host, the locks. `reconcile` has the list of steps for a start and for every pass.

mod areas;
mod attachments;
mod config;
mod context;
mod dispatch;
mod edges;
mod error;
mod global_device;
mod health;
mod host;
mod identity;
mod import_legacy;
mod leases;
mod ledger;
mod lifetime;
mod locks;
mod names;
mod networks;
mod observer;
mod overlay;
mod peer_sync;
mod peers;
mod reconcile;
mod services;
mod start;
mod status;
mod traversal;

use std::sync::Arc;

use tokio::sync::watch;

use self::{
    areas::Areas, context::Context, observer::DeviceObserver, reconcile::Reconciler, start::load, status::StatusReader,
};
pub use self::{
    config::{BuildInfo, EngineConfig, EngineTimes},
    error::{Error, StartError},
    host::Backends,
};
use crate::contract::Finding;

/// Owns everything on the host that touches the overlay, and answers requests about it.
#[derive(Debug)]
pub struct Engine {
    areas: Arc<Areas>,
    observer: Arc<DeviceObserver>,
    reconciler: Reconciler,
    status: StatusReader,
    shutdown: watch::Sender<ShutdownState>,
    /// Shared by all above, and the last to go.
    context: Arc<Context>,
}

/// Whether a `shutdown` request was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShutdownState {
    NotAsked,
    Done,
}

impl Engine {
    /// Loads what was asked for in earlier runs, brings the host in line with it, and only then returns.
    pub async fn start(config: EngineConfig, backends: Backends) -> Result<Arc<Self>, StartError> {
        let context = Arc::new(load(config, backends).await?);
        let observer = Arc::new(DeviceObserver::new(&context));
        let areas = Arc::new(Areas::new(&context, &observer));
        let health = Arc::default();
        let engine = Arc::new(Self {
            reconciler: Reconciler::new(&context, &areas, &observer, &health),
            status: StatusReader::new(&context, &observer, &health),
            shutdown: watch::Sender::new(ShutdownState::NotAsked),
            areas,
            observer,
            context,
        });
        // Before the first request is answered: no address is given away that a container of an earlier run still
        // has.
        engine.reconciler.start().await;
        observer::spawn(&engine);
        edges::spawn(&engine);
        reconcile::spawn(&engine);
        peers::spawn_resolver(&engine);
        Ok(engine)
    }

    /// One pass. What fails is logged, told in `status`, and tried again by the next one.
    pub async fn reconcile(&self) {
        self.reconciler.pass().await;
    }

    /// What an operator should know of: what backends found on the host, and what the last pass or the start could not do.
    pub fn findings(&self) -> Vec<Finding> {
        self.status.findings()
    }

    /// Resolves once a `shutdown` request has been carried out.
    pub async fn shutdown_requested(&self) {
        let mut shutdown = self.shutdown.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        drop(shutdown.wait_for(|state| *state == ShutdownState::Done).await);
    }

    /// Resolves once the last user of this engine is gone, work that is under way included, and the store is closed.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut life = self.context.life.subscribe();
        async move { while life.changed().await.is_ok() {} }
    }

    /// Whether a request waits for its change to become durable.
    pub fn is_recording(&self) -> bool {
        self.context.ledger.is_recording()
    }
}
