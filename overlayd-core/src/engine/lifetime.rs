//! When a service comes to its end by itself: with the last of its containers, if all of them were ephemeral.

use crate::{
    contract::{AttachmentId, Target},
    desired::{Change, Desired, Lifetime, Phase, ServiceRecord},
};

/// How a service is used anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceUse {
    /// It is set up, or an ephemeral container joins it.
    Passing,
    /// A lasting container joins it.
    Lasting,
}

/// What the use makes of the service's lifetime; nothing where that stays as it is.
pub(super) fn used(desired: &Desired, name: &str, how: ServiceUse) -> Option<Change> {
    let service = desired.service(name)?;
    let lifetime = match (how, service.lifetime) {
        (ServiceUse::Lasting, Lifetime::UntilEmpty | Lifetime::Left) => Lifetime::Kept,
        (ServiceUse::Passing, Lifetime::Left) => Lifetime::UntilEmpty,
        (ServiceUse::Lasting | ServiceUse::Passing, Lifetime::Kept) | (ServiceUse::Passing, Lifetime::UntilEmpty) => {
            return None;
        }
    };
    Some(Change::Service(name.to_owned(), Some(ServiceRecord { lifetime, ..service.clone() })))
}

/// What becomes of the service that `handle` leaves. It is on record together with the detach, so that a daemon that
/// ends in between still knows that the service is to go. An attachment that was refused, or is not plugged in
/// yet, does not hold it: once plugged in, it has the service last anew.
pub(super) fn left(desired: &Desired, name: &str, handle: &AttachmentId) -> Option<Change> {
    let service = desired.service(name).filter(|service| service.lifetime == Lifetime::UntilEmpty)?;
    // A container that was refused never used the service, and leaves it as it was.
    let was_in = desired.attachment(handle).is_some_and(|record| record.phase == Phase::Wanted);
    let holds = |member: &AttachmentId| {
        let record = desired.attachment(member).filter(|record| record.phase == Phase::Wanted);
        record.is_some_and(|record| record.identity.is_some() || matches!(record.target, Target::Address(_)))
    };
    let last = was_in && desired.members(name).all(|member| member == handle || !holds(member));
    let left = ServiceRecord { lifetime: Lifetime::Left, ..service.clone() };
    last.then(|| Change::Service(name.to_owned(), Some(left)))
}
