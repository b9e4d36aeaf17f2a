//! Taking changes of peers back, when others may have been made since.

use ipnet::IpNet;

use super::{Change, Desired, PeerId, PeerRecord};

/// What takes a decision back now, given what would have right after it. Peers stand in it last that were changed first,
/// which is the peer that the decision was about; others lost ranges to it. Ranges that went on to another peer stay
/// there, and a peer that lost ranges gets those back and nothing else of what it was.
pub(crate) fn as_of_now(desired: &Desired, undo: Vec<Change>) -> Vec<Change> {
    let subject = undo.iter().rev().find_map(|change| match change {
        Change::Peer(id, _) => Some(id.clone()),
        _ => None,
    });
    let Some(subject) = subject else { return undo };
    undo.into_iter()
        .filter_map(|change| match change {
            Change::Peer(id, Some(before)) if id == subject => {
                Some(Change::Peer(id, Some(kept(desired, &subject, before))))
            }
            Change::Peer(loser, Some(before)) => {
                let now = desired.peer(&loser)?;
                let mut record = (**now).clone();
                let back = before.allowed_ips.into_iter().filter(|range| !now.allowed_ips.contains(range));
                record.allowed_ips.extend(back.filter(|range| is_free(desired, &subject, *range)));
                Some(Change::Peer(loser, Some(record)))
            }
            other => Some(other),
        })
        .collect()
}

/// The record without the ranges that others hold by now.
fn kept(desired: &Desired, subject: &PeerId, mut record: PeerRecord) -> PeerRecord {
    record.allowed_ips.retain(|range| is_free(desired, subject, *range));
    record
}

/// Whether no other peer holds the range.
fn is_free(desired: &Desired, subject: &PeerId, range: IpNet) -> bool {
    desired.route_holder(&subject.scope, range).is_none_or(|holder| holder == subject.public_key)
}
