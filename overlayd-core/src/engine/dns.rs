//! Names: registered ones are recorded here, those of services follow from what is attached. A `Dns` backend answers them.

use std::{collections::BTreeSet, net::IpAddr, sync::atomic::Ordering};

use super::{Engine, Error, locks::Key, parse};
use crate::{
    contract::{DnsChange, DnsPlan},
    desired::Change,
    ipc::Turn,
    plan::{self, MOST_ADDRESSES, Naming, ServeDns, ServiceNames},
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
    pub(super) async fn register_dns(&self, turn: Turn, name: &str, ip: IpAddr) -> Result<Response, Error> {
        let name = parse::dns_name(name)?;
        self.check_zone(&name)?;
        self.change_name(turn, &name, |addresses| with_address(addresses, ip).map(|addresses| addresses.map(Some)))
            .await
    }

    pub(super) async fn unregister_dns(&self, turn: Turn, name: &str) -> Result<Response, Error> {
        let name = parse::dns_name(name)?;
        self.change_name(turn, &name, |addresses| Ok(addresses.map(|_| None))).await
    }

    /// Records what becomes of the name's addresses (`None`: as they were) and has it answered. A repeated request is
    /// answered again too, in case that failed before.
    async fn change_name(
        &self,
        turn: Turn,
        name: &str,
        becomes: impl FnOnce(Option<&BTreeSet<IpAddr>>) -> Result<Option<Option<BTreeSet<IpAddr>>>, Error>,
    ) -> Result<Response, Error> {
        let _world = self.world.read().await;
        let _name = self.locks.exclusive(Key::Name(name.to_owned())).await;
        let decided = self
            .decide_now(|desired| {
                let addresses = becomes(desired.dns().get(name))?;
                Ok((addresses.map(|addresses| Change::Dns(name.to_owned(), addresses)).into_iter().collect(), ()))
            })
            .await?;
        drop(turn);
        let (undo, ()) = self.durable(decided).await?;
        let coming_up = self.coming_up.load(Ordering::SeqCst) > 0;
        let mut served = self.serve_name(name).await;
        if served.is_err() && coming_up {
            // The address to answer at is there once the overlay is.
            drop(self.locks.shared(Key::Overlay).await);
            served = self.serve_name(name).await;
        }
        if let Err(error) = served {
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
            note_refusal(&mut served, before, &error);
        }
    }

    /// Has the name of a service answered as things are now. What is attached stays so when that is refused: it is tried
    /// again by every pass.
    pub(super) async fn serve_service(&self, service: &str) {
        if self.config.dns.service_names == ServiceNames::Off {
            return;
        }
        let mut served = self.served.lock().await;
        let Some((plan, zone)) = self.dns_plan(&served) else { return };
        let outcome = match &*served {
            Served::Refused(_) => return,
            Served::Plan(known) if *known == plan => {
                let naming = self.naming(&plan, &zone);
                let change = naming.change(&self.desired(), &naming.of_service(service));
                self.change_record(naming, change).await
            }
            Served::Plan(_) | Served::Nothing => self.serve_all(&mut served, plan, &zone).await,
        };
        if let Err(error) = outcome {
            note_refusal(&mut served, None, &error);
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
        let naming = self.naming(&plan, &zone);
        let change = naming.change(&self.desired(), &naming.absolute(name));
        self.change_record(naming, change).await
    }

    /// Names that are nobody's business here have none to tell.
    async fn change_record(&self, naming: Naming<'_>, change: DnsChange) -> Result<(), Error> {
        let (DnsChange::Set(name, _) | DnsChange::Remove(name)) = &change;
        if naming.is_ours(name) { self.host.change_dns_records(&[change]).await } else { Ok(()) }
    }

    async fn serve_all(&self, served: &mut Served, plan: DnsPlan, zone: &str) -> Result<(), Error> {
        let records = {
            let (desired, naming) = (self.desired(), self.naming(&plan, zone));
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
            ServeDns::OnceRegistered => {
                let attached = self.config.dns.service_names == ServiceNames::Attached
                    && desired.services_with_members().next().is_some();
                attached || !desired.dns().is_empty() || matches!(served, Served::Plan(_))
            }
        };
        if !wanted || !self.host.has_dns() {
            return None;
        }
        let zone = plan::deployment_zone(&desired.overlay()?.deployment);
        Some((plan::dns(&desired, &self.config.dns)?, zone))
    }

    /// A name that nobody would answer is refused. Before there is an overlay, the deployment's zone is not known.
    fn check_zone(&self, name: &str) -> Result<(), Error> {
        let desired = self.desired();
        if !self.host.has_dns() || desired.dns().contains_key(name) {
            return Ok(());
        }
        let Some(overlay) = desired.overlay() else { return self.check_early(name) };
        let Some(plan) = plan::dns(&desired, &self.config.dns) else { return Ok(()) };
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

    fn check_early(&self, name: &str) -> Result<(), Error> {
        let plan = DnsPlan { zones: self.config.dns.zones.clone(), ..DnsPlan::default() };
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

    fn naming<'a>(&self, plan: &'a DnsPlan, zone: &'a str) -> Naming<'a> {
        Naming { plan, zone, service_names: self.config.dns.service_names }
    }
}

/// The addresses with one more; `None` when it is there already.
fn with_address(addresses: Option<&BTreeSet<IpAddr>>, ip: IpAddr) -> Result<Option<BTreeSet<IpAddr>>, Error> {
    let mut addresses = addresses.cloned().unwrap_or_default();
    let new = addresses.insert(ip);
    parse::at_most("ip", MOST_ADDRESSES, addresses.len())?;
    Ok(new.then_some(addresses))
}

fn note_refusal(served: &mut Served, before: Option<String>, error: &Error) {
    let reason = error.to_string();
    if before.as_ref() != Some(&reason) {
        tracing::error!(%error, "names are not answered; every pass tries again");
    }
    *served = Served::Refused(reason);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_more_addresses_than_an_answer_has_room_for() {
        let ip = |n: usize| IpAddr::V4(u32::try_from(n).unwrap().into());
        let full: BTreeSet<IpAddr> = (0..MOST_ADDRESSES).map(ip).collect();
        assert!(with_address(Some(&full), ip(MOST_ADDRESSES)).unwrap_err().to_string().contains("1001"));
        assert_eq!(with_address(Some(&full), ip(7)).unwrap(), None);
        assert_eq!(with_address(None, ip(7)).unwrap(), Some(BTreeSet::from([ip(7)])));
    }
}
