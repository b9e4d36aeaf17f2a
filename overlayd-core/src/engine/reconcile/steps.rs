//! The steps by which the host is brought in line with the records: one list for the start and for every pass.

use super::{PassRun, Reconciler, leftovers};
use crate::{
    contract::{AttachmentId, FindingCode, FindingSubject},
    engine::{
        Error,
        attachments::{AttachmentScope, SeenAttachments},
        health::StepFailure,
        locks::Entered,
    },
};

/// One part of the host that is reconciled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReconcileStep {
    /// Fences around the addresses of guests, processes of the host and edges.
    Fences,
    /// The global device and its peers, the networks and devices of services, the answers to names.
    Overlay,
    /// Attachments and networks of an earlier run that no record speaks of.
    LeftoverNetworks,
    /// Devices of an earlier run that no record speaks of.
    LeftoverDevices,
    /// Keys of guests that no record speaks of.
    LeftoverKeys,
    /// Fences of edges that another program has taken away.
    EdgeFences,
    /// Containers, guests and processes of the host.
    Attachments,
    /// Services whose last container has left.
    EmptyServices,
    /// A look at the devices, for `status`.
    Observation,
}

/// In which passes a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepTime {
    /// When the daemon starts.
    Start,
    /// In every pass after the start.
    Pass,
    Always,
}

/// All steps in the order in which they run.
///
/// Fences come before the overlay at start: a device that comes up with its peers must not let in an identity whose fence
/// does not stand yet. Attachments come after the overlay, because they are planned with its MTU.
pub(super) const STEPS: [(ReconcileStep, StepTime); 9] = [
    (ReconcileStep::Fences, StepTime::Start),
    (ReconcileStep::Overlay, StepTime::Always),
    (ReconcileStep::LeftoverNetworks, StepTime::Start),
    (ReconcileStep::LeftoverDevices, StepTime::Start),
    (ReconcileStep::LeftoverKeys, StepTime::Start),
    (ReconcileStep::EdgeFences, StepTime::Pass),
    (ReconcileStep::Attachments, StepTime::Always),
    (ReconcileStep::EmptyServices, StepTime::Always),
    (ReconcileStep::Observation, StepTime::Start),
];

impl ReconcileStep {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fences => "fences",
            Self::Overlay => "overlay and networks",
            Self::LeftoverNetworks => "leftover attachments and networks",
            Self::LeftoverDevices => "leftover devices",
            Self::LeftoverKeys => "leftover keys",
            Self::EdgeFences => "fences of edges",
            Self::Attachments => "attachments",
            Self::EmptyServices => "empty services",
            Self::Observation => "observation",
        }
    }
}

impl Reconciler {
    /// Runs one step; what it could not do is the result.
    pub(super) async fn run(
        &self,
        step: ReconcileStep,
        run: &mut PassRun,
        entered: &mut Entered<'_>,
    ) -> Vec<StepFailure> {
        match step {
            ReconcileStep::Fences => self.reconcile_fences(entered).await,
            ReconcileStep::Overlay => self.reconcile_overlay(run, entered).await,
            ReconcileStep::LeftoverNetworks => failed(leftovers::remove_objects(&self.context).await),
            ReconcileStep::LeftoverDevices => failed(leftovers::remove_devices(&self.context).await),
            ReconcileStep::LeftoverKeys => failed(leftovers::forget_keys(&self.context)),
            ReconcileStep::EdgeFences => self.reconcile_edge_fences(run, entered).await,
            ReconcileStep::Attachments => self.reconcile_attachments(run, entered).await,
            ReconcileStep::EmptyServices => self.remove_empty_services(entered).await,
            // The first status is complete before the first interval of the observer is over.
            ReconcileStep::Observation => failed(self.observer.look().await.map(drop)),
        }
    }

    async fn reconcile_fences(&self, entered: &mut Entered<'_>) -> Vec<StepFailure> {
        let edges = self.areas.edges.reconcile_fences(entered, |_| false).await;
        // All fences are tried, also after one has failed: each failure keeps out the identity behind that fence
        // alone.
        let addresses = self.areas.attachments.reconcile_fences().await;
        edges.into_iter().map(kept_out_edge).chain(addresses.into_iter().map(kept_out)).collect()
    }

    async fn reconcile_overlay(&self, run: &mut PassRun, entered: &mut Entered<'_>) -> Vec<StepFailure> {
        let device = self.areas.overlay.device();
        let before = device.mtu();
        let outcome = self.areas.overlay.reconcile(entered).await;
        let mtu = device.mtu();
        if mtu != before && run.scope == AttachmentScope::Drifted {
            tracing::info!(mtu, before, "the underlay carries packets of another size");
            // Interfaces of containers keep the MTU that they were made with until they are attached again.
            run.scope = AttachmentScope::All;
        }
        failed(outcome)
    }

    /// Looks at the attachments once, for this step and the next.
    async fn reconcile_edge_fences(&self, run: &mut PassRun, entered: &mut Entered<'_>) -> Vec<StepFailure> {
        let seen = match self.context.host.networks.observe().await {
            Ok(networks) => run.seen.insert(SeenAttachments::of(networks)),
            Err(error) => return vec![StepFailure::of_step(&error)],
        };
        let failures = self.areas.edges.reconcile_fences(entered, |id| seen.has(id)).await;
        failures.into_iter().map(kept_out_edge).collect()
    }

    async fn reconcile_attachments(&self, run: &PassRun, entered: &mut Entered<'_>) -> Vec<StepFailure> {
        // Without a look there is nothing to go by, and the step before has said why.
        let Some(seen) = &run.seen else { return Vec::new() };
        let failures = self.areas.attachments.reconcile(entered, run.scope, seen).await;
        failures.into_iter().map(not_attached).collect()
    }

    async fn remove_empty_services(&self, entered: &mut Entered<'_>) -> Vec<StepFailure> {
        self.areas.services.remove_left(entered).await.into_iter().map(not_removed).collect()
    }
}

fn failed(outcome: Result<(), Error>) -> Vec<StepFailure> {
    outcome.err().iter().map(StepFailure::of_step).collect()
}

fn kept_out_edge((name, error): (String, Error)) -> StepFailure {
    kept_out((AttachmentId::Edge(name), error))
}

fn kept_out((id, error): (AttachmentId, Error)) -> StepFailure {
    let code = match &id {
        AttachmentId::Edge(_) | AttachmentId::Guest(_) => FindingCode::IdentityKeptOut,
        // A process of the host has its address without an identity of its own.
        _ => FindingCode::ReconcileFailed,
    };
    StepFailure { code, subject: FindingSubject::Attachment(id), text: error.to_string() }
}

fn not_attached((id, error): (AttachmentId, Error)) -> StepFailure {
    StepFailure { code: FindingCode::ReconcileFailed, subject: FindingSubject::Attachment(id), text: error.to_string() }
}

fn not_removed((service, error): (String, Error)) -> StepFailure {
    StepFailure {
        code: FindingCode::ReconcileFailed,
        subject: FindingSubject::Host,
        text: format!("service {service}: {error}"),
    }
}
