//! The one module that calls the four traits: every call under a deadline, every failure with its context.

mod findings;

use std::{sync::Arc, time::Duration};

use self::findings::HostFindings;
use super::Error;
use crate::{
    contract::{
        self, AttachPlan, Attached, Attacher, AttachmentId, Candidate, DeviceInfo, DevicePlan, DeviceStatus, Dns,
        DnsChange, DnsPlan, DriftSignal, Finding, HostNetworks, Nat, NatPlan, NetworkInfo, NetworkName, NetworkPlan,
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
    /// Through it, backends report that another program has changed what the daemon made.
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
    pub(super) devices: DeviceCalls,
    pub(super) networks: NetworkCalls,
    pub(super) dns: DnsCalls,
    pub(super) nat: NatCalls,
    /// Through it, backends report drift.
    pub(super) drift: DriftSignal,
}

impl Host {
    pub(super) fn new(backends: Backends, deadline: Duration) -> Self {
        let calls = BoundedCalls { deadline };
        Self {
            devices: DeviceCalls { backend: backends.overlay, calls },
            networks: NetworkCalls { backend: backends.attacher, calls, findings: HostFindings::default() },
            dns: DnsCalls { backend: backends.dns, calls },
            nat: NatCalls { backend: backends.nat, calls },
            drift: backends.drift,
        }
    }
}

/// WireGuard devices.
pub(super) struct DeviceCalls {
    backend: Arc<dyn OverlayBackend>,
    calls: BoundedCalls,
}

impl DeviceCalls {
    pub(super) fn backend_name(&self) -> &'static str {
        self.backend.name()
    }

    pub(super) async fn ensure(&self, plan: &DevicePlan) -> Result<DeviceInfo, Error> {
        let what = format!("set up device {}", plan.name);
        self.calls.act("ensure_device", what, self.backend.ensure_device(plan)).await
    }

    pub(super) async fn change_peers(&self, device: &LinkName, changes: &[PeerChange]) -> Result<(), Error> {
        let what = format!("change peers of {device}");
        self.calls.act("change_peers", what, self.backend.change_peers(device, changes)).await
    }

    pub(super) async fn observe(&self) -> Result<Vec<DeviceStatus>, Error> {
        self.calls.bounded("observe devices".into(), self.backend.observe()).await
    }

    pub(super) async fn remove(&self, device: &LinkName) -> Result<(), Error> {
        let what = format!("remove device {device}");
        self.calls.act("remove_device", what, self.backend.remove_device(device)).await
    }
}

/// Local networks, and what is attached to them.
pub(super) struct NetworkCalls {
    backend: Arc<dyn Attacher>,
    calls: BoundedCalls,
    findings: HostFindings,
}

impl NetworkCalls {
    pub(super) async fn ensure(&self, plan: &NetworkPlan) -> Result<NetworkInfo, Error> {
        let what = format!("set up network {}", plan.name);
        self.calls.act("ensure_network", what, self.backend.ensure_network(plan)).await
    }

    pub(super) async fn remove(&self, network: &NetworkName) -> Result<(), Error> {
        let what = format!("remove network {network}");
        self.calls.act("remove_network", what, self.backend.remove_network(network)).await
    }

    pub(super) async fn attach(&self, plan: &AttachPlan) -> Result<Attached, Error> {
        self.calls.act("attach", format!("attach {}", plan.id), self.backend.attach(plan)).await
    }

    pub(super) async fn detach(&self, id: &AttachmentId) -> Result<(), Error> {
        self.calls.act("detach", format!("detach {id}"), self.backend.detach(id)).await
    }

    pub(super) async fn observe(&self) -> Result<HostNetworks, Error> {
        let networks = self.calls.bounded("observe networks".into(), self.backend.observe()).await?;
        self.findings.note(&networks.findings);
        Ok(networks)
    }

    /// What the backend found on the host, as last observed.
    pub(super) fn findings(&self) -> Vec<Finding> {
        self.findings.list()
    }
}

/// Answers to names. A host without a backend for them answers none.
pub(super) struct DnsCalls {
    backend: Option<Arc<dyn Dns>>,
    calls: BoundedCalls,
}

impl DnsCalls {
    /// Whether names can be answered at all.
    pub(super) fn is_available(&self) -> bool {
        self.backend.is_some()
    }

    pub(super) async fn apply(&self, plan: &DnsPlan) -> Result<(), Error> {
        let Some(dns) = &self.backend else { return Ok(()) };
        self.calls.act("apply_dns", "answer names".into(), dns.apply(plan)).await
    }

    pub(super) async fn change_records(&self, changes: &[DnsChange]) -> Result<(), Error> {
        let Some(dns) = &self.backend else { return Ok(()) };
        self.calls.act("change_dns_records", "change names".into(), dns.change_records(changes)).await
    }

    pub(super) async fn clear(&self) -> Result<(), Error> {
        let Some(dns) = &self.backend else { return Ok(()) };
        self.calls.act("clear_dns", "stop answering names".into(), dns.clear()).await
    }
}

/// NAT traversal.
pub(super) struct NatCalls {
    backend: Option<Arc<dyn Nat>>,
    calls: BoundedCalls,
}

impl NatCalls {
    pub(super) async fn discover(&self, plan: &NatPlan) -> Result<Vec<Candidate>, Error> {
        let Some(nat) = &self.backend else {
            return Err(Error::Unsupported(
                "NAT traversal is not part of this build; set it up with nat.enabled false".into(),
            ));
        };
        self.calls.bounded("gather candidates".into(), nat.discover(plan)).await
    }
}

/// How every backend is called.
#[derive(Debug, Clone, Copy)]
struct BoundedCalls {
    deadline: Duration,
}

impl BoundedCalls {
    /// A step that changes the host. Tests let the daemon end before and after it.
    async fn act<T>(
        self,
        verb: &'static str,
        what: String,
        call: impl Future<Output = contract::Result<T>>,
    ) -> Result<T, Error> {
        crash::point("before", verb).await;
        let outcome = self.bounded(what, call).await;
        crash::point("after", verb).await;
        outcome
    }

    async fn bounded<T>(self, what: String, call: impl Future<Output = contract::Result<T>>) -> Result<T, Error> {
        // The call is dropped when its time is over. A backend either finishes what it began or leaves a half that
        // the next call repairs: that is part of the contract.
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

/// The backends have no `Debug` of their own.
macro_rules! debug_by_name {
    ($($calls:ident),*) => {
        $(impl std::fmt::Debug for $calls {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($calls)).finish_non_exhaustive()
            }
        })*
    };
}

debug_by_name!(DeviceCalls, NetworkCalls, DnsCalls, NatCalls);
