//! When a service comes to its end by itself: with the last of its containers, if all of them were ephemeral.

use crate::{
    contract::Target,
    desired::{Change, Desired, Handle, Lifetime, Phase, ServiceRecord},
    engine::{Engine, Error, locks::Key},
};

/// How a service is used anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Use {
    /// It is set up, or an ephemeral container joins it.
    Passing,
    /// A lasting container joins it.
    Lasting,
}

/// What the use makes of the service's lifetime; nothing where that stays as it is.
pub(in crate::engine) fn used(desired: &Desired, name: &str, how: Use) -> Option<Change> {
    let service = desired.service(name)?;
    let lifetime = match (how, service.lifetime) {
        (Use::Lasting, Lifetime::UntilEmpty | Lifetime::Left) => Lifetime::Kept,
        (Use::Passing, Lifetime::Left) => Lifetime::UntilEmpty,
        (Use::Lasting | Use::Passing, Lifetime::Kept) | (Use::Passing, Lifetime::UntilEmpty) => return None,
    };
    Some(Change::Service(name.to_owned(), Some(ServiceRecord { lifetime, ..service.clone() })))
}

/// What becomes of the service that `handle` leaves. It is on record together with the detach, so that a daemon that
/// ends in between still knows that the service is to go. Who was refused, or is not plugged in yet, does not hold it: who
/// is plugged in later has it last anew.
pub(in crate::engine) fn left(desired: &Desired, name: &str, handle: &Handle) -> Option<Change> {
    let service = desired.service(name).filter(|service| service.lifetime == Lifetime::UntilEmpty)?;
    let was_in = desired.attachment(handle).is_some_and(|record| record.phase == Phase::Wanted);
    let holds = |member: &Handle| {
        let record = desired.attachment(member).filter(|record| record.phase == Phase::Wanted);
        record.is_some_and(|record| record.identity.is_some() || matches!(record.target, Target::Address(_)))
    };
    let last = was_in && desired.members(name).all(|member| member == handle || !holds(member));
    let left = ServiceRecord { lifetime: Lifetime::Left, ..service.clone() };
    last.then(|| Change::Service(name.to_owned(), Some(left)))
}

impl Engine {
    /// Removes the service if its last container has left it for good, unless somebody came back.
    pub(in crate::engine) async fn remove_if_left(&self, name: &str) -> Result<(), Error> {
        let _service = self.locks.exclusive(Key::Service(name.to_owned())).await;
        let goes = {
            let desired = self.desired();
            let left = desired.service(name).is_some_and(|service| service.lifetime == Lifetime::Left);
            left && desired.members(name).next().is_none()
        };
        if goes { self.remove_service(name).await } else { Ok(()) }
    }

    /// Removes all services whose last container has left them for good.
    pub(in crate::engine) async fn remove_left_services(&self) {
        let left: Vec<String> = {
            let desired = self.desired();
            let left = desired.services().iter().filter(|(_, service)| service.lifetime == Lifetime::Left);
            left.map(|(name, _)| name.clone()).collect()
        };
        for name in left {
            if let Err(error) = self.remove_if_left(&name).await {
                tracing::warn!(service = name, %error, "an empty service could not be removed; the next pass tries again");
            }
        }
    }
}
