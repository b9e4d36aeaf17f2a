//! The backend itself: plans come in, sockets and snapshots follow.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use overlayd_core::contract::{Dns, DnsChange, DnsPlan, Error, Handover, Result, Upstreams};
use tokio::sync::Mutex;

use crate::{
    forward::QueryForwarder,
    listen::{AddressListener, BoundSockets},
    plan,
    service::DnsService,
};

/// Answers the overlay's zones and forwards everything else, on the runtime that calls it.
#[derive(Debug, Default)]
pub struct DnsResponder {
    state: Mutex<ResponderState>,
}

#[derive(Debug, Default)]
struct ResponderState {
    running: Option<RunningResponder>,
    /// Listeners whose sockets may not be free yet.
    stopping: Vec<AddressListener>,
}

#[derive(Debug)]
struct RunningResponder {
    service: Arc<DnsService>,
    listeners: BTreeMap<SocketAddr, AddressListener>,
    forwarding: ForwarderConfig,
}

/// What the forwarder depends on; it is replaced when one of these changes.
#[derive(Debug, PartialEq, Eq)]
struct ForwarderConfig {
    upstreams: Upstreams,
    listen: Vec<SocketAddr>,
    cache_bytes: usize,
}

impl DnsResponder {
    /// A responder that answers nothing until a plan is applied.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Dns for DnsResponder {
    fn name(&self) -> &'static str {
        "dns-responder"
    }

    async fn apply(&self, plan: &DnsPlan) -> Result<()> {
        let mut state = self.state.lock().await;
        state.settle().await;
        state.apply(plan)?;
        state.settle().await;
        Ok(())
    }

    async fn change_records(&self, changes: &[DnsChange]) -> Result<()> {
        let state = self.state.lock().await;
        let running = state.running.as_ref().ok_or_else(|| Error::NotFound("a DNS plan".into()))?;
        let changed = plan::changed(&running.service.view.load(), changes)?;
        running.service.view.store(Arc::new(changed));
        Ok(())
    }

    async fn clear(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        if let Some(running) = state.running.take() {
            state.stop(running.listeners.into_values());
        }
        state.settle().await;
        Ok(())
    }

    fn handover(&self) -> Option<&dyn Handover> {
        Some(self)
    }
}

impl ResponderState {
    /// Applies all of the plan or nothing. Not `async`: a caller that gives up cannot leave it half done.
    fn apply(&mut self, plan: &DnsPlan) -> Result<()> {
        let current = self.running.as_ref().map(|running| running.service.view.load_full());
        let serial = current.as_ref().map_or_else(first_serial, |view| view.serial.wrapping_add(1));
        let view = plan::view(plan, plan::settings(plan)?, serial)?;
        // All sockets are bound before anything changes, so that a port in use leaves the old plan in force.
        let mut bound = BTreeMap::new();
        for address in &plan.listen {
            if !self.listens_on(address) && !bound.contains_key(address) {
                bound.insert(*address, BoundSockets::new(*address)?);
            }
        }

        let forwarding = ForwarderConfig::of(plan);
        let running = match self.running.take() {
            Some(mut running) => {
                if current.is_none_or(|current| !current.same_answers(&view)) {
                    running.service.view.store(Arc::new(view));
                }
                // A new forwarder begins with an empty cache, so it is only made for a reason.
                if running.forwarding != forwarding {
                    running.service.forwarder.store(Arc::new(forwarding.forwarder()));
                    running.forwarding = forwarding;
                }
                running
            }
            None => {
                let service = Arc::new(DnsService::new(view, forwarding.forwarder()));
                RunningResponder { service, listeners: BTreeMap::new(), forwarding }
            }
        };
        self.listen(running, bound, &plan.listen);
        Ok(())
    }

    fn listens_on(&self, address: &SocketAddr) -> bool {
        self.running.as_ref().is_some_and(|running| running.listeners.contains_key(address))
    }

    fn listen(
        &mut self,
        mut running: RunningResponder,
        bound: BTreeMap<SocketAddr, BoundSockets>,
        planned: &[SocketAddr],
    ) {
        for (address, bound) in bound {
            tracing::info!(%address, "answering DNS");
            running.listeners.insert(address, AddressListener::start(bound, &running.service));
        }
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            running.listeners.into_iter().partition(|(address, _)| planned.contains(address));
        running.listeners = kept;
        self.stop(gone.into_values());
        self.running = Some(running);
    }

    fn stop(&mut self, listeners: impl Iterator<Item = AddressListener>) {
        for listener in listeners {
            listener.stop();
            self.stopping.push(listener);
        }
    }

    /// Waits until the sockets of what was stopped are free; a dropped call leaves the rest to the next one.
    async fn settle(&mut self) {
        while let Some(listener) = self.stopping.last() {
            listener.stopped().await;
            self.stopping.pop();
        }
    }
}

impl ForwarderConfig {
    fn of(plan: &DnsPlan) -> Self {
        Self { upstreams: plan.upstreams.clone(), listen: plan.listen.clone(), cache_bytes: plan.cache_bytes }
    }

    fn forwarder(&self) -> QueryForwarder {
        QueryForwarder::new(&self.upstreams, &self.listen, self.cache_bytes)
    }
}

/// Serials grow over restarts too, as secondaries expect (RFC 1982).
fn first_serial() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs() as u32)
}
