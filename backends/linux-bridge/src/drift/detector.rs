use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use overlayd_core::{
    contract::{self, AttachmentId, DriftReason, DriftSignal, InterfaceChange},
    sync::KeyedLocks,
};
use overlayd_netlink::{
    Link,
    watch::{ChangedBy, NetworkEvent},
};

use super::noted;
use crate::{
    host::HostContext,
    mark::{InstanceMarks, LinkMark},
};

/// How long something must have been wrong, without further change, before it is told: what we do ourselves takes
/// several steps, and what others do comes in bursts.
const SETTLE: Duration = Duration::from_millis(20);

/// Tells what others did to our links and rules from what we did and from what is none of our business.
#[derive(Debug)]
pub(super) struct DriftDetector {
    host: Arc<HostContext>,
    /// The attachments that are being worked on.
    busy: Arc<KeyedLocks<AttachmentId>>,
    signal: DriftSignal,
    /// Our links by index, as last told, with the mark that they had first: one that was taken off is to be noticed.
    known: HashMap<u32, Link>,
    /// What those of them that have lost their mark bear instead.
    unmarked: HashMap<u32, Option<String>>,
    /// Links of others on our bridges.
    guests: HashMap<u32, Link>,
    /// Whether something was not heard, and not looked up since.
    deaf: bool,
    /// Those of them that have been in service: one that is being made is not yet.
    served: HashSet<u32>,
    suspects: BTreeMap<DriftSubject, PendingDrift>,
    /// Changes of the ruleset that touched our tables, by generation.
    rulesets: Vec<u32>,
}

/// What may have been changed by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum DriftSubject {
    Ruleset,
    Link(u32),
}

#[derive(Debug, Clone)]
struct PendingDrift {
    due: Instant,
    /// What others certainly did; otherwise the link itself has to tell.
    certain: Option<InterfaceChange>,
}

impl DriftDetector {
    pub(super) fn new(
        shared: Arc<HostContext>,
        busy: Arc<KeyedLocks<AttachmentId>>,
        signal: DriftSignal,
    ) -> contract::Result<Self> {
        let mut detector = Self {
            host: shared,
            busy,
            signal,
            known: HashMap::new(),
            unmarked: HashMap::new(),
            guests: HashMap::new(),
            deaf: true,
            served: HashSet::new(),
            suspects: BTreeMap::new(),
            rulesets: Vec::new(),
        };
        detector.look_at_all()?;
        Ok(detector)
    }

    /// Our links, and those of others on our bridges, as they were when the last event was told.
    pub(super) fn links(&mut self) -> contract::Result<Vec<Link>> {
        if self.deaf {
            self.look_at_all()?;
        }
        let as_is = |link: &Link| match self.unmarked.get(&link.index) {
            Some(alias) => Link { alias: alias.clone(), ..link.clone() },
            None => link.clone(),
        };
        Ok(self.known.values().map(as_is).chain(self.guests.values().cloned()).collect())
    }

    /// Hears what was told, in this order.
    pub(super) fn hear_all(&mut self, events: Vec<NetworkEvent>) {
        events.into_iter().for_each(|event| self.hear(event));
        // Only now: what was told is older than what is to be seen.
        if self.deaf && noted(self.look_at_all(), "the host's links could not be listed").is_some() {
            self.suspects.clear();
            self.rulesets.clear();
            self.signal.changed(DriftReason::EventsLost);
        }
    }

    /// Something was told that could not be heard.
    pub(super) fn miss(&mut self) {
        self.deaf = true;
    }

    /// When to conclude next, where something is under suspicion.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.suspects.values().map(|suspicion| suspicion.due).min()
    }

    fn hear(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::Link(link) => self.hear_link(link),
            NetworkEvent::LinkGone(link, by) => self.hear_end(&link, by),
            NetworkEvent::AddressGone(index, ChangedBy::Another) => self.suspect(index, InterfaceChange::LostAddress),
            NetworkEvent::RouteGone(index, ChangedBy::Another) => self.suspect(index, InterfaceChange::LostRoute),
            NetworkEvent::AddressGone(_, ChangedBy::Us | ChangedBy::Kernel)
            | NetworkEvent::RouteGone(_, ChangedBy::Us | ChangedBy::Kernel) => {}
            NetworkEvent::Ruleset { tables, generation } => {
                if tables.iter().any(|table| *table == self.host.marks.table()) {
                    self.rulesets.push(generation);
                    self.suspects.entry(DriftSubject::Ruleset).or_insert_with(|| PendingDrift::new(None));
                }
            }
            NetworkEvent::Overrun => self.miss(),
        }
    }

    /// Tells of what has been wrong for long enough.
    pub(super) fn conclude(&mut self) {
        let now = Instant::now();
        let due: Vec<DriftSubject> =
            self.suspects.iter().filter(|(_, suspicion)| suspicion.due <= now).map(|(subject, _)| *subject).collect();
        for subject in due {
            let Some(suspicion) = self.suspects.remove(&subject) else { continue };
            match subject {
                DriftSubject::Ruleset => self.conclude_ruleset(),
                DriftSubject::Link(index) => self.conclude_link(index, suspicion.certain),
            }
        }
    }

    fn hear_link(&mut self, link: Link) {
        let index = link.index;
        let before = self.known.get(&index);
        if self.host.marks.is_reaped(&link) || (before.is_none() && !self.host.marks.is_ours(&link)) {
            self.forget(index);
            self.receive(link);
            return;
        }
        if link.up {
            self.served.insert(index);
        }
        if !before.is_some_and(|before| same(before, &link)) {
            let suspicion = self.suspects.entry(DriftSubject::Link(index)).or_insert_with(|| PendingDrift::new(None));
            suspicion.due = Instant::now() + SETTLE;
        }
        let alias = before.and_then(|before| before.alias.clone()).or(link.alias.clone());
        let lost_mark = link.alias.is_none() && alias.is_some();
        if link.alias == alias {
            self.unmarked.remove(&index);
        } else {
            self.unmarked.insert(index, link.alias.clone());
        }
        self.known.insert(index, Link { alias, ..link });
        if lost_mark {
            self.suspect(index, InterfaceChange::LostMark);
        }
    }

    /// Notes a link of another program that is on a bridge of this instance.
    fn receive(&mut self, link: Link) {
        if link.master.is_some_and(|master| self.known.contains_key(&master)) {
            self.guests.insert(link.index, link);
        }
    }

    fn forget(&mut self, index: u32) -> Option<Link> {
        self.suspects.remove(&DriftSubject::Link(index));
        self.served.remove(&index);
        self.unmarked.remove(&index);
        self.guests.remove(&index);
        self.known.remove(&index)
    }

    fn hear_end(&mut self, link: &Link, by: ChangedBy) {
        let Some(known) = self.forget(link.index) else { return };
        if by != ChangedBy::Us && !self.host.marks.is_reaped(link) {
            // Only this daemon can make it again, so there is nothing to wait for.
            self.tell(&known, InterfaceChange::Deleted);
        }
    }

    fn suspect(&mut self, index: u32, what: InterfaceChange) {
        if self.known.contains_key(&index) {
            self.suspects.entry(DriftSubject::Link(index)).or_insert_with(|| PendingDrift::new(None)).certain =
                Some(what);
        }
    }

    fn conclude_link(&mut self, index: u32, certain: Option<InterfaceChange>) {
        let Some(link) = self.known.get(&index) else { return };
        if self.host.rtnl.own_changes().is_being_deleted(index) || !self.served.contains(&index) {
            return;
        }
        let Some(what) = certain.or_else(|| wrong(link, &self.host.marks, &self.known)) else { return };
        if let Some(LinkMark::Attachment(owner)) = self.host.marks.read(link)
            && self.busy.is_held(&owner.id)
        {
            self.suspects.insert(DriftSubject::Link(index), PendingDrift::new(certain));
            return;
        }
        self.tell(link, what);
    }

    fn conclude_ruleset(&mut self) {
        let generations = std::mem::take(&mut self.rulesets);
        if self.host.rules().are_foreign(&generations) {
            let table = format!("nftables table {}", self.host.marks.table());
            self.signal.changed(DriftReason::Rules { table });
        }
    }

    fn tell(&self, link: &Link, change: InterfaceChange) {
        let what = DriftReason::Interface { name: link.name.clone(), change };
        match self.host.marks.read(link) {
            Some(LinkMark::Attachment(owner)) => self.signal.attachment(owner.id, what),
            _ => self.signal.changed(what),
        }
    }

    /// Takes stock anew.
    fn look_at_all(&mut self) -> overlayd_netlink::Result<()> {
        self.deaf = true;
        let links = self.host.rtnl.links()?;
        let (ours, others): (Vec<Link>, Vec<Link>) = links.into_iter().partition(|link| self.host.marks.is_ours(link));
        self.known = ours.into_iter().map(|link| (link.index, link)).collect();
        self.served = self.known.keys().copied().collect();
        self.unmarked.clear();
        self.guests.clear();
        others.into_iter().for_each(|link| self.receive(link));
        self.deaf = false;
        Ok(())
    }
}

impl PendingDrift {
    fn new(certain: Option<InterfaceChange>) -> Self {
        Self { due: Instant::now() + SETTLE, certain }
    }
}

/// Whether nothing changed that matters here.
fn same(before: &Link, now: &Link) -> bool {
    (before.up, before.master, &before.name) == (now.up, now.master, &now.name)
}

/// What is wrong with a link of this instance, as far as the link shows it. One without a mark is being made.
fn wrong(link: &Link, marks: &InstanceMarks, known: &HashMap<u32, Link>) -> Option<InterfaceChange> {
    link.alias.as_ref()?;
    let is_network = |index| known.get(&index).is_some_and(|master| marks.is_network(master));
    if !link.up {
        Some(InterfaceChange::Down)
    } else if marks.is_bridge_leg(link) && !link.master.is_some_and(is_network) {
        Some(InterfaceChange::Unplugged)
    } else {
        None
    }
}

#[cfg(test)]
#[path = "detector_tests.rs"]
mod tests;
