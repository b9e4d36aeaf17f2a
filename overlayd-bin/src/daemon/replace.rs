use std::{sync::Arc, time::Duration};

use anyhow::{Result, anyhow};

use super::{
    DaemonProcess,
    control_plane::{ControlPlane, ListenerSource},
    upgrade_gate::UpgradeRequest,
};
use crate::platform::{listener::ClientListener, service_manager::ServiceManager, upgrade::SuccessorProcess};

/// How long packets are carried for a successor that serves; it needs the sessions of its peers, and then some seconds.
const GIVING: Duration = Duration::from_secs(20);

/// How an attempt to be replaced ended.
pub(super) enum UpgradeOutcome {
    /// Another process is the daemon.
    Replaced,
    /// This process still is.
    Stays(Box<ControlPlane>),
}

impl DaemonProcess {
    /// Starts a successor and gives it everything. Whatever goes wrong before that one serves, this process goes on.
    pub(super) async fn be_replaced(&self, plane: ControlPlane, request: UpgradeRequest) -> Result<UpgradeOutcome> {
        let mut successor = match SuccessorProcess::start(&self.program).await {
            Ok(successor) => successor,
            Err(error) => return Ok(stays(Box::new(plane), Some(request), &error)),
        };
        let patience = self.settings.deadlines.request() + Duration::from_secs(1);
        let retired = match plane.retire(patience).await {
            Ok(retired) => retired,
            Err(plane) => {
                return Ok(stays(plane, Some(request), &anyhow!("a request does not end; the daemon goes on")));
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
        // Where nothing is lent, this process would end before the answer is on its way to whoever asked.
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
        drop(successor);
        if let Some(lender) = &self.wired()?.lender {
            lender.reclaim().await?;
        }
        let plane = ControlPlane::start(self, ListenerSource::Kept(listener)).await?;
        Ok(stays(Box::new(plane), request, why))
    }

    /// Carries packets until the successor does.
    async fn wait_until_given(&self, successor: &SuccessorProcess) -> Result<()> {
        let Some(lender) = &self.wired()?.lender else { return Ok(()) };
        tokio::select! {
            given = lender.lent() => anyhow::ensure!(given?, "the successor ended before it had taken over everything"),
            () = successor.lost() => anyhow::bail!("the successor ended before it had taken over everything"),
            // The end of this process is noticed there.
            () = tokio::time::sleep(GIVING) => tracing::warn!("the successor is slow; it goes on without this process"),
        }
        Ok(())
    }

    async fn hand_over(&self, successor: &mut SuccessorProcess, listener: impl std::os::fd::AsFd) -> Result<()> {
        let wired = self.wired()?;
        if let Some(dns) = &wired.backends.dns {
            dns.clear().await?;
        }
        let devices = match &wired.lender {
            Some(lender) => lender.lend().await?,
            None => Vec::new(),
        };
        wired.bridge.let_go().await?;
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
