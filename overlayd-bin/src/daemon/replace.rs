//! The older process's side of an upgrade. Up to the moment when the successor serves, every failure leads back: the
//! successor is ended, and this process is the daemon again.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, anyhow};

use super::{
    DaemonProcess,
    control_plane::{ControlPlane, ListenerSource},
    handover,
    upgrade_gate::UpgradeRequest,
};
use crate::platform::{listener::ClientListener, service_manager::ServiceManager, upgrade::SuccessorProcess};

/// How long packets are carried for a successor that serves; it needs the sessions of its peers, and then some seconds.
const GIVING: Duration = Duration::from_secs(20);
/// Time for requests to end beyond their own deadline.
const GRACE: Duration = Duration::from_secs(1);

/// How an attempt to be replaced ended.
pub(super) enum UpgradeOutcome {
    /// Another process is the daemon.
    Replaced,
    /// This process still is.
    Stays(Box<ControlPlane>),
}

impl DaemonProcess {
    /// Starts a successor and gives it everything. If anything fails before the successor serves, this process goes on.
    pub(super) async fn be_replaced(&self, plane: ControlPlane, request: UpgradeRequest) -> Result<UpgradeOutcome> {
        let mut successor = match SuccessorProcess::start(&self.program).await {
            Ok(successor) => successor,
            Err(error) => return Ok(stays(Box::new(plane), Some(request), &error)),
        };
        // The store has one owner at a time, so it is closed before the successor may open it.
        let retired = match plane.retire(self.settings.deadlines.request() + GRACE).await {
            Ok(retired) => retired,
            Err(plane) => {
                let error = anyhow!("a request does not end; the daemon goes on");
                return Ok(stays(plane, Some(request), &error));
            }
        };
        let mut request = Some(request);
        let outcome = match self.hand_over(&mut successor, &retired.listener).await {
            Ok(()) => {
                answer(&mut request, Ok(()));
                self.wait_until_given(&successor).await
            }
            failed => failed,
        };
        if let Err(error) = outcome {
            return self.resume(retired.listener, successor, request, &error).await;
        }
        ServiceManager.succeeded_by(successor.pid());
        tracing::info!(pid = successor.pid(), "another process is the daemon now");
        successor.release();
        // Where nothing was handed over, this process would end before the answer is on its way to the caller.
        retired.leave().await?;
        Ok(UpgradeOutcome::Replaced)
    }

    /// The successor is of no use: it is ended, and this process is the daemon again.
    async fn resume(
        &self,
        listener: Arc<ClientListener>,
        successor: SuccessorProcess,
        request: Option<UpgradeRequest>,
        why: &anyhow::Error,
    ) -> Result<UpgradeOutcome> {
        // It must be gone before anything is taken back: two processes would read from the same devices.
        drop(successor);
        handover::abort(self.backends()?).await?;
        let plane = ControlPlane::start(self, ListenerSource::Kept(listener)).await?;
        Ok(stays(Box::new(plane), request, why))
    }

    /// Carries packets until the successor does.
    async fn wait_until_given(&self, successor: &SuccessorProcess) -> Result<()> {
        tokio::select! {
            completed = handover::complete(self.backends()?) => completed,
            () = successor.lost() => Err(anyhow!("the successor ended before it had taken over everything")),
            () = tokio::time::sleep(GIVING) => {
                // The successor notices the end of this process, and takes the devices as they are then.
                tracing::warn!("the successor is slow; it goes on without this process");
                Ok(())
            }
        }
    }

    async fn hand_over(&self, successor: &mut SuccessorProcess, listener: impl std::os::fd::AsFd) -> Result<()> {
        let devices = handover::prepare(self.backends()?).await?;
        successor.take_over(listener, devices).await
    }
}

fn stays(plane: Box<ControlPlane>, mut request: Option<UpgradeRequest>, why: &anyhow::Error) -> UpgradeOutcome {
    tracing::error!(error = format!("{why:#}"), "the daemon was not replaced and goes on");
    answer(&mut request, Err(format!("{why:#}")));
    UpgradeOutcome::Stays(plane)
}

fn answer(request: &mut Option<UpgradeRequest>, outcome: Result<(), String>) {
    if let Some(request) = request.take() {
        request.end(outcome);
    }
}
