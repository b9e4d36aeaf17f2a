use std::{sync::Arc, time::Duration};

use anyhow::{Result, anyhow};

use super::{
    Daemon,
    control_plane::{Door, Plane},
    upgrade_gate::Order,
};
use crate::platform::{listener::Listener, service_manager::Manager, upgrade::Successor};

/// How long packets are carried for a successor that serves; it needs the sessions of its peers, and then some seconds.
const GIVING: Duration = Duration::from_secs(20);

/// How an attempt to be replaced ended.
pub(super) enum Outcome {
    /// Another process is the daemon.
    Replaced,
    /// This process still is.
    Stays(Box<Plane>),
}

impl Daemon {
    /// Starts a successor and gives it everything. Whatever goes wrong before that one serves, this process goes on.
    pub(super) async fn be_replaced(&self, plane: Plane, order: Order) -> Result<Outcome> {
        let mut successor = match Successor::start(&self.program).await {
            Ok(successor) => successor,
            Err(error) => return Ok(stays(Box::new(plane), Some(order), &error)),
        };
        let patience = self.settings.deadlines.request() + Duration::from_secs(1);
        let retired = match plane.retire(patience).await {
            Ok(retired) => retired,
            Err(plane) => return Ok(stays(plane, Some(order), &anyhow!("a request does not end; the daemon goes on"))),
        };
        let mut order = Some(order);
        let outcome = match self.hand_over(&mut successor, &retired.listener).await {
            Ok(()) => {
                answer(&mut order, Ok(()));
                self.wait_until_given(&successor).await
            }
            failed => failed,
        };
        if let Err(error) = outcome {
            return self.resume(retired.listener, successor, order, &error).await;
        }
        Manager.succeeded_by(successor.pid());
        tracing::info!(pid = successor.pid(), "another process is the daemon now");
        successor.release();
        // Where nothing is lent, this process would end before the answer is on its way to whoever asked.
        retired.leave().await?;
        Ok(Outcome::Replaced)
    }

    /// The successor is of no use: it is ended, and this process is the daemon again.
    async fn resume(
        &self,
        listener: Arc<Listener>,
        successor: Successor,
        order: Option<Order>,
        why: &anyhow::Error,
    ) -> Result<Outcome> {
        drop(successor);
        if let Some(lender) = &self.wired()?.lender {
            lender.reclaim().await?;
        }
        let plane = Plane::start(self, Door::Kept(listener)).await?;
        Ok(stays(Box::new(plane), order, why))
    }

    /// Carries packets until the successor does.
    async fn wait_until_given(&self, successor: &Successor) -> Result<()> {
        let Some(lender) = &self.wired()?.lender else { return Ok(()) };
        tokio::select! {
            given = lender.lent() => anyhow::ensure!(given?, "the successor ended before it had taken over everything"),
            () = successor.lost() => anyhow::bail!("the successor ended before it had taken over everything"),
            // The end of this process is noticed there.
            () = tokio::time::sleep(GIVING) => tracing::warn!("the successor is slow; it goes on without this process"),
        }
        Ok(())
    }

    async fn hand_over(&self, successor: &mut Successor, listener: impl std::os::fd::AsFd) -> Result<()> {
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

fn stays(plane: Box<Plane>, mut order: Option<Order>, why: &anyhow::Error) -> Outcome {
    tracing::error!(error = format!("{why:#}"), "the daemon was not replaced and goes on");
    answer(&mut order, Err(format!("{why:#}")));
    Outcome::Stays(plane)
}

fn answer(order: &mut Option<Order>, outcome: Result<(), String>) {
    if let Some(order) = order.take() {
        order.end(outcome);
    }
}
