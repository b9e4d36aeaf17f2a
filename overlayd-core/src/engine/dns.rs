//! Registered names: recorded here, answered by a `Dns` backend.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Engine, Error, locks::Key, parse};
use crate::{
    contract::DnsPlan,
    desired::Change,
    plan::{self, ServeDns},
    protocol::Response,
};

/// What the backend was last told, records aside.
#[derive(Debug, Default)]
pub(super) enum Served {
    /// Nothing: it answers nothing.
    #[default]
    Nothing,
    /// This plan.
    Plan(DnsPlan),
    /// A plan that it refused, and why.
    Refused(String),
}

impl Engine {
    /// A second address of a name is added to the first.
    pub(super) async fn register_dns(&self, name: &str, ip: IpAddr) -> Result<Response, Error> {
        let name = parse::dns_name(name)?;
        self.change_name(&name, |addresses| {
            let mut addresses = addresses.cloned().unwrap_or_default();
            addresses.insert(ip).then_some(Some(addresses))
        })
        .await
    }

    pub(super) async fn unregister_dns(&self, name: &str) -> Result<Response, Error> {
        let name = parse::dns_name(name)?;
        self.change_name(&name, |addresses| addresses.map(|_| None)).await
    }

    /// Records what becomes of the name's addresses (`None`: as they were) and has it answered. A repeated request is
    /// answered again too, in case that failed before.
    async fn change_name(
        &self,
        name: &str,
        becomes: impl FnOnce(Option<&BTreeSet<IpAddr>>) -> Option<Option<BTreeSet<IpAddr>>>,
    ) -> Result<Response, Error> {
        let _world = self.world.read().await;
        let _name = self.locks.exclusive(Key::Name(name.to_owned())).await;
        self.check_zone(name)?;
        let (undo, ()) = self
            .decide(|desired| {
                let addresses = becomes(desired.dns().get(name));
                Ok((addresses.map(|addresses| Change::Dns(name.to_owned(), addresses)).into_iter().collect(), ()))
            })
            .await?;
        if let Err(error) = self.serve_name(name).await {
            self.withdraw(undo).await?;
            return Err(error);
        }
        Ok(Response::Ok)
    }

    /// Has all names answered, where any are to be. The overlay is up all the same when that is refused: it is tried
    /// again by every pass, said once per reason, and the next registration answers with it.
    pub(super) async fn serve_names(&self) {
        let mut served = self.served.lock().await;
        let Some((plan, zone)) = self.dns_plan(&served) else { return };
        if matches!(&*served, Served::Plan(known) if *known == plan) {
            return;
        }
        let before = match &*served {
            Served::Refused(reason) => Some(reason.clone()),
            Served::Nothing | Served::Plan(_) => None,
        };
        if let Err(error) = self.serve_all(&mut served, plan, &zone).await {
            let reason = error.to_string();
            if before.as_ref() != Some(&reason) {
                tracing::error!(%error, "registered names are not answered");
            }
            *served = Served::Refused(reason);
        }
    }

    /// Has no name answered any more; they stay recorded.
    pub(super) async fn silence_names(&self) -> Result<(), Error> {
        let mut served = self.served.lock().await;
        self.host.clear_dns().await?;
        *served = Served::Nothing;
        Ok(())
    }

    async fn serve_name(&self, name: &str) -> Result<(), Error> {
        let mut served = self.served.lock().await;
        let Some((plan, zone)) = self.dns_plan(&served) else { return Ok(()) };
        if !matches!(&*served, Served::Plan(known) if *known == plan) {
            return self.serve_all(&mut served, plan, &zone).await;
        }
        let name = plan::absolute_name(name, &zone);
        if !plan::in_a_zone(&plan, &name) {
            return Ok(());
        }
        let change = plan::dns_change(&self.desired(), &name, &zone);
        self.host.change_dns_records(&[change]).await
    }

    async fn serve_all(&self, served: &mut Served, plan: DnsPlan, zone: &str) -> Result<(), Error> {
        let records = plan::dns_records(&self.desired(), &plan, zone);
        // Until the backend has answered, nobody knows what it was told.
        *served = Served::Nothing;
        self.host.apply_dns(&DnsPlan { records, ..plan.clone() }).await?;
        *served = Served::Plan(plan);
        Ok(())
    }

    /// What is to be answered now, and the deployment's zone; `None` is nothing.
    fn dns_plan(&self, served: &Served) -> Option<(DnsPlan, String)> {
        let desired = self.desired();
        let wanted = match self.config.dns.serve {
            ServeDns::Never => false,
            ServeDns::Always => true,
            ServeDns::OnceRegistered => !desired.dns().is_empty() || matches!(served, Served::Plan(_)),
        };
        if !wanted || !self.host.has_dns() {
            return None;
        }
        let zone = plan::deployment_zone(&desired.overlay()?.deployment);
        Some((plan::dns(&desired, &self.config.dns)?, zone))
    }

    /// A name that nobody would answer is refused, as soon as the zones are known.
    fn check_zone(&self, name: &str) -> Result<(), Error> {
        let desired = self.desired();
        let (Some(overlay), true) = (desired.overlay(), self.host.has_dns()) else { return Ok(()) };
        let Some(plan) = plan::dns(&desired, &self.config.dns) else { return Ok(()) };
        let absolute = plan::absolute_name(name, &plan::deployment_zone(&overlay.deployment));
        if plan::in_a_zone(&plan, &absolute) || desired.dns().contains_key(name) {
            return Ok(());
        }
        let zones: Vec<_> = plan.zones.iter().map(String::as_str).collect();
        Err(Error::invalid(
            "name",
            format_args!(
                "`{name}` is in none of this node's zones ({}); zones are added by configuration",
                zones.join(", ")
            ),
        ))
    }
}
