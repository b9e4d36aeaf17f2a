//! Registered names: recorded here, answered by a `Dns` backend together with those of services.

mod answers;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

pub(super) use self::answers::NameAnswers;
use super::{Error, context::Context, global_device::GlobalDevice, locks::Entered};
use crate::{command::parse::at_most, desired::Change, ipc::OrderGuard, plan::MOST_ADDRESSES, protocol::Response};

/// The names that were registered.
#[derive(Debug)]
pub(super) struct NameRegistry {
    context: Arc<Context>,
    global: Arc<GlobalDevice>,
    answers: Arc<NameAnswers>,
}

/// What a request makes of the addresses of a name.
enum NameChange {
    Keep,
    Set(BTreeSet<IpAddr>),
    Forget,
}

impl NameRegistry {
    pub(super) fn new(context: &Arc<Context>, global: &Arc<GlobalDevice>, answers: &Arc<NameAnswers>) -> Self {
        Self { context: Arc::clone(context), global: Arc::clone(global), answers: Arc::clone(answers) }
    }

    /// A second address of a name is added to the first.
    pub(super) async fn register(
        &self,
        entered: &mut Entered<'_>,
        order: OrderGuard,
        name: &str,
        ip: IpAddr,
    ) -> Result<Response, Error> {
        self.answers.check_zone(name)?;
        self.change(entered, order, name, |addresses| with_address(addresses, ip)).await
    }

    pub(super) async fn unregister(
        &self,
        entered: &mut Entered<'_>,
        order: OrderGuard,
        name: &str,
    ) -> Result<Response, Error> {
        self.change(entered, order, name, |addresses| {
            Ok(if addresses.is_some() { NameChange::Forget } else { NameChange::Keep })
        })
        .await
    }

    /// Records what becomes of the name's addresses and has it answered. A repeated request is answered again, in case
    /// that failed before.
    async fn change(
        &self,
        entered: &mut Entered<'_>,
        order: OrderGuard,
        name: &str,
        becomes: impl FnOnce(Option<&BTreeSet<IpAddr>>) -> Result<NameChange, Error>,
    ) -> Result<Response, Error> {
        let mut held = self.context.locks.name(entered, name).await;
        let decision = self
            .context
            .ledger
            .decide_now(|desired| {
                let change = match becomes(desired.dns().get(name))? {
                    NameChange::Keep => None,
                    NameChange::Set(addresses) => Some(Change::Dns(name.to_owned(), Some(addresses))),
                    NameChange::Forget => Some(Change::Dns(name.to_owned(), None)),
                };
                Ok((change.into_iter().collect(), ()))
            })
            .await?;
        // The next request of the connection finds this change already, and may begin while the disk works.
        drop(order);
        let (undo, ()) = self.context.ledger.durable(decision).await?;
        // Asked before the backend is: a set-up that ends in between makes the second try unnecessary, not wrong.
        let coming_up = self.global.is_coming_up();
        let mut served = self.answers.serve_name(name).await;
        if served.is_err() && coming_up {
            // The address to answer at is there once the overlay is.
            drop(self.context.locks.overlay_shared(&mut held).await);
            served = self.answers.serve_name(name).await;
        }
        if let Err(error) = served {
            self.context.ledger.withdraw(undo).await?;
            return Err(error);
        }
        Ok(Response::Ok)
    }
}

/// The addresses with one more.
fn with_address(addresses: Option<&BTreeSet<IpAddr>>, ip: IpAddr) -> Result<NameChange, Error> {
    let mut addresses = addresses.cloned().unwrap_or_default();
    let is_new = addresses.insert(ip);
    at_most("ip", MOST_ADDRESSES, addresses.len())?;
    Ok(if is_new { NameChange::Set(addresses) } else { NameChange::Keep })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_more_addresses_than_an_answer_has_room_for() {
        let ip = |n: usize| IpAddr::V4(u32::try_from(n).unwrap().into());
        let full: BTreeSet<IpAddr> = (0..MOST_ADDRESSES).map(ip).collect();
        let error = with_address(Some(&full), ip(MOST_ADDRESSES)).err().unwrap();
        assert!(error.to_string().contains("1001"));
        assert!(matches!(with_address(Some(&full), ip(7)), Ok(NameChange::Keep)));
        assert!(matches!(with_address(None, ip(7)), Ok(NameChange::Set(set)) if set == BTreeSet::from([ip(7)])));
    }
}
