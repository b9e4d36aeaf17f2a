//! Keeps the `Dns` backend answering what is registered and what is attached.

use std::sync::Arc;

use crate::{
    contract::{DnsChange, DnsPlan},
    engine::{Error, context::Context},
    plan::{self, Naming, ServeDns, ServiceNames},
};

/// The answers to names. The mutex is held while the backend is told, so that it is told in the order of the records.
#[derive(Debug)]
pub(in crate::engine) struct NameAnswers {
    context: Arc<Context>,
    served: tokio::sync::Mutex<ServedAnswers>,
}

/// What the backend was last told, records aside.
#[derive(Debug, Default)]
enum ServedAnswers {
    /// Nothing: it answers nothing.
    #[default]
    Nothing,
    /// This plan.
    Plan(DnsPlan),
    /// A plan that it refused, and why.
    Refused(String),
}

impl NameAnswers {
    pub(in crate::engine) fn new(context: &Arc<Context>) -> Self {
        Self { context: Arc::clone(context), served: tokio::sync::Mutex::default() }
    }

    /// Has all names answered, where any are to be. The overlay is up all the same when that is refused: every pass tries
    /// again, the reason is logged once, and the next registration answers with it.
    pub(in crate::engine) async fn reconcile(&self) {
        let mut served = self.served.lock().await;
        let Some((plan, zone)) = self.plan_now(&served) else { return };
        if matches!(&*served, ServedAnswers::Plan(known) if *known == plan) {
            return;
        }
        let before = match &*served {
            ServedAnswers::Refused(reason) => Some(reason.clone()),
            ServedAnswers::Nothing | ServedAnswers::Plan(_) => None,
        };
        if let Err(error) = self.serve_all(&mut served, plan, &zone).await {
            note_refusal(&mut served, before, &error);
        }
    }

    /// Has the name of a service answered as things are now. What is attached stays so when that is refused: every pass
    /// tries again.
    pub(in crate::engine) async fn serve_service(&self, service: &str) {
        if self.context.config.dns.service_names == ServiceNames::Off {
            return;
        }
        let mut served = self.served.lock().await;
        let Some((plan, zone)) = self.plan_now(&served) else { return };
        let outcome = match &*served {
            // A pass asks again for the whole plan. A container that is attached must not wait for a backend that has
            // refused, and may take until the deadline to do so again.
            ServedAnswers::Refused(_) => return,
            ServedAnswers::Plan(known) if *known == plan => {
                let naming = self.naming(&plan, &zone);
                let change = naming.change(&self.context.ledger.desired(), &naming.of_service(service));
                self.change_record(naming, change).await
            }
            ServedAnswers::Plan(_) | ServedAnswers::Nothing => self.serve_all(&mut served, plan, &zone).await,
        };
        if let Err(error) = outcome {
            note_refusal(&mut served, None, &error);
        }
    }

    /// Has a registered name answered as it is on record.
    pub(super) async fn serve_name(&self, name: &str) -> Result<(), Error> {
        let mut served = self.served.lock().await;
        let Some((plan, zone)) = self.plan_now(&served) else { return Ok(()) };
        if !matches!(&*served, ServedAnswers::Plan(known) if *known == plan) {
            return self.serve_all(&mut served, plan, &zone).await;
        }
        let naming = self.naming(&plan, &zone);
        let change = naming.change(&self.context.ledger.desired(), &naming.absolute(name));
        self.change_record(naming, change).await
    }

    /// Has no name answered any more; they stay recorded.
    pub(in crate::engine) async fn silence(&self) -> Result<(), Error> {
        let mut served = self.served.lock().await;
        self.context.host.dns.clear().await?;
        *served = ServedAnswers::Nothing;
        Ok(())
    }

    /// A name that no backend would answer is refused. Before there is an overlay, the deployment's zone is not known.
    pub(super) fn check_zone(&self, name: &str) -> Result<(), Error> {
        let desired = self.context.ledger.desired();
        // A name that is registered already is not checked again: its zone may have been taken out of the
        // configuration, and its addresses still change.
        if !self.context.host.dns.is_available() || desired.dns().contains_key(name) {
            return Ok(());
        }
        let Some(overlay) = desired.overlay() else { return self.check_zone_early(name) };
        let Some(plan) = plan::dns(&desired, &self.context.config.dns) else { return Ok(()) };
        let zone = plan::deployment_zone(&overlay.deployment);
        let naming = self.naming(&plan, &zone);
        if naming.is_ours(&naming.absolute(name)) {
            return Ok(());
        }
        let zones: Vec<_> = plan.zones.iter().map(String::as_str).collect();
        Err(Error::invalid(
            "name",
            format_args!(
                "`{name}` is in none of this node's zones ({}), or too long there; zones are added by configuration",
                zones.join(", ")
            ),
        ))
    }

    fn check_zone_early(&self, name: &str) -> Result<(), Error> {
        let plan = DnsPlan { zones: self.context.config.dns.zones.clone(), ..DnsPlan::default() };
        match name.strip_suffix('.') {
            Some(absolute) if !self.naming(&plan, "").is_ours(absolute) => Err(Error::invalid(
                "name",
                format_args!(
                    "whether `{name}` is in a zone of this node is not known before the overlay is set up; call \
                     setup_global_overlay() first, or leave the final dot out to have it in the deployment's zone"
                ),
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// A name of another zone is no change for the backend.
    async fn change_record(&self, naming: Naming<'_>, change: DnsChange) -> Result<(), Error> {
        let (DnsChange::Set(name, _) | DnsChange::Remove(name)) = &change;
        if naming.is_ours(name) { self.context.host.dns.change_records(&[change]).await } else { Ok(()) }
    }

    async fn serve_all(&self, served: &mut ServedAnswers, plan: DnsPlan, zone: &str) -> Result<(), Error> {
        let records = {
            let desired = self.context.ledger.desired();
            let naming = self.naming(&plan, zone);
            let strangers = naming.strangers(&desired);
            if let Some(name) = strangers.first() {
                tracing::warn!(
                    names = strangers.len(),
                    name,
                    zone,
                    "registered names are in none of the zones and not answered"
                );
            }
            naming.records(&desired)
        };
        // A call that fails or runs out of time may have been carried out in part: until the backend has answered, what
        // it serves is not known.
        *served = ServedAnswers::Nothing;
        self.context.host.dns.apply(&DnsPlan { records, ..plan.clone() }).await?;
        *served = ServedAnswers::Plan(plan);
        Ok(())
    }

    /// What is to be answered now, and the deployment's zone; `None` is nothing.
    fn plan_now(&self, served: &ServedAnswers) -> Option<(DnsPlan, String)> {
        let desired = self.context.ledger.desired();
        let config = &self.context.config.dns;
        let wanted = match config.serve {
            ServeDns::Never => false,
            ServeDns::Always => true,
            ServeDns::OnceRegistered => {
                let attached =
                    config.service_names == ServiceNames::Attached && desired.services_with_members().next().is_some();
                // Once it answers it goes on, also without a name: resolvers keep on asking.
                attached || !desired.dns().is_empty() || matches!(served, ServedAnswers::Plan(_))
            }
        };
        if !wanted || !self.context.host.dns.is_available() {
            return None;
        }
        let zone = plan::deployment_zone(&desired.overlay()?.deployment);
        Some((plan::dns(&desired, config)?, zone))
    }

    fn naming<'a>(&self, plan: &'a DnsPlan, zone: &'a str) -> Naming<'a> {
        Naming { plan, zone, service_names: self.context.config.dns.service_names }
    }
}

fn note_refusal(served: &mut ServedAnswers, before: Option<String>, error: &Error) {
    let reason = error.to_string();
    if before.as_ref() != Some(&reason) {
        tracing::error!(%error, "names are not answered; every pass tries again");
    }
    *served = ServedAnswers::Refused(reason);
}
