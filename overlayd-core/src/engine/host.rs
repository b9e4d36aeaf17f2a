//! The one file that calls the four traits: every call under a deadline, every failure with its context.

use std::{sync::Arc, time::Duration};

use super::{Error, obstacles::Obstacles};
use crate::{
    contract::{
        self, AttachPlan, Attached, Attacher, AttachmentId, Candidate, DeviceInfo, DevicePlan, DeviceStatus, Dns,
        DnsChange, DnsPlan, DriftSignal, HostNetworks, Nat, NatPlan, NetworkInfo, NetworkName, NetworkPlan,
        OverlayBackend, PeerChange,
    },
    crash,
    names::LinkName,
};

/// The implementations a daemon was wired with.
#[derive(Clone)]
pub struct Backends {
    /// WireGuard devices.
    pub overlay: Arc<dyn OverlayBackend>,
    /// Local networks and containers.
    pub attacher: Arc<dyn Attacher>,
    /// Names, where the daemon serves them.
    pub dns: Option<Arc<dyn Dns>>,
    /// Traversal, where the daemon does it.
    pub nat: Option<Arc<dyn Nat>>,
    /// By which they tell that somebody else changed what is ours.
    pub drift: DriftSignal,
}

impl std::fmt::Debug for Backends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backends")
            .field("overlay", &self.overlay.name())
            .field("attacher", &self.attacher.name())
            .field("dns", &self.dns.as_ref().map(|dns| dns.name()))
            .field("nat", &self.nat.as_ref().map(|nat| nat.name()))
            .finish()
    }
}

/// The host as the engine reaches it.
#[derive(Debug)]
pub(super) struct Host {
    backends: Backends,
    deadline: Duration,
    obstacles: Obstacles,
}

impl Host {
    pub(super) fn new(backends: Backends, deadline: Duration) -> Self {
        Self { backends, deadline, obstacles: Obstacles::default() }
    }

    /// By which the backends tell of drift.
    pub(super) fn drift(&self) -> &DriftSignal {
        &self.backends.drift
    }

    pub(super) fn overlay_name(&self) -> &'static str {
        self.backends.overlay.name()
    }

    pub(super) async fn ensure_device(&self, plan: &DevicePlan) -> Result<DeviceInfo, Error> {
        self.act("ensure_device", format!("set up device {}", plan.name), self.backends.overlay.ensure_device(plan))
            .await
    }

    pub(super) async fn change_peers(&self, device: &LinkName, changes: &[PeerChange]) -> Result<(), Error> {
        self.act(
            "change_peers",
            format!("change peers of {device}"),
            self.backends.overlay.change_peers(device, changes),
        )
        .await
    }

    pub(super) async fn observe_devices(&self) -> Result<Vec<DeviceStatus>, Error> {
        self.bounded("observe devices".into(), self.backends.overlay.observe()).await
    }

    pub(super) async fn remove_device(&self, device: &LinkName) -> Result<(), Error> {
        self.act("remove_device", format!("remove device {device}"), self.backends.overlay.remove_device(device)).await
    }

    pub(super) async fn ensure_network(&self, plan: &NetworkPlan) -> Result<NetworkInfo, Error> {
        self.act("ensure_network", format!("set up network {}", plan.name), self.backends.attacher.ensure_network(plan))
            .await
    }

    pub(super) async fn remove_network(&self, network: &NetworkName) -> Result<(), Error> {
        self.act("remove_network", format!("remove network {network}"), self.backends.attacher.remove_network(network))
            .await
    }

    pub(super) async fn attach(&self, plan: &AttachPlan) -> Result<Attached, Error> {
        self.act("attach", format!("attach {}", plan.id), self.backends.attacher.attach(plan)).await
    }

    pub(super) async fn detach(&self, id: &AttachmentId) -> Result<(), Error> {
        self.act("detach", format!("detach {id}"), self.backends.attacher.detach(id)).await
    }

    pub(super) async fn observe_networks(&self) -> Result<HostNetworks, Error> {
        let networks = self.bounded("observe networks".into(), self.backends.attacher.observe()).await?;
        self.obstacles.note(&networks.findings);
        Ok(networks)
    }

    /// What others have put in our packets' way, as last observed.
    pub(super) fn obstacles(&self) -> Vec<String> {
        self.obstacles.list()
    }

    pub(super) async fn discover(&self, plan: &NatPlan) -> Result<Vec<Candidate>, Error> {
        match &self.backends.nat {
            Some(nat) => self.bounded("gather candidates".into(), nat.discover(plan)).await,
            None => Err(Error::Unsupported(
                "NAT traversal is not part of this build; set it up with nat.enabled false".into(),
            )),
        }
    }

    /// Whether names can be answered at all.
    pub(super) fn has_dns(&self) -> bool {
        self.backends.dns.is_some()
    }

    pub(super) async fn apply_dns(&self, plan: &DnsPlan) -> Result<(), Error> {
        match &self.backends.dns {
            Some(dns) => self.act("apply_dns", "answer names".into(), dns.apply(plan)).await,
            None => Ok(()),
        }
    }

    pub(super) async fn change_dns_records(&self, changes: &[DnsChange]) -> Result<(), Error> {
        match &self.backends.dns {
            Some(dns) => self.act("change_dns_records", "change names".into(), dns.change_records(changes)).await,
            None => Ok(()),
        }
    }

    pub(super) async fn clear_dns(&self) -> Result<(), Error> {
        match &self.backends.dns {
            Some(dns) => self.act("clear_dns", "stop answering names".into(), dns.clear()).await,
            None => Ok(()),
        }
    }

    /// A step that somebody outside can see.
    async fn act<T>(
        &self,
        verb: &'static str,
        what: String,
        call: impl Future<Output = contract::Result<T>>,
    ) -> Result<T, Error> {
        crash::point("before", verb).await;
        let outcome = self.bounded(what, call).await;
        crash::point("after", verb).await;
        outcome
    }

    async fn bounded<T>(&self, what: String, call: impl Future<Output = contract::Result<T>>) -> Result<T, Error> {
        let outcome = match tokio::time::timeout(self.deadline, call).await {
            Ok(outcome) => outcome,
            Err(_) => Err(contract::Error::Deadline { what: "the host".into(), after: self.deadline }),
        };
        match outcome {
            Ok(value) => {
                tracing::debug!(step = what, "done");
                Ok(value)
            }
            Err(source) => {
                tracing::debug!(step = what, code = source.code(), error = %source, "failed");
                Err(Error::Host { what, source })
            }
        }
    }
}
