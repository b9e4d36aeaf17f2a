//! What attachments have in the sets, and how that changes. The cost of a change is that of the one attachment.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use overlayd_core::contract::{self, AttachmentId, Error};

use super::sets::{ElementValue, NftElement, RuleItem, SetName, comment};

/// The contents of all sets.
#[derive(Debug, Default)]
pub(super) struct ElementStore {
    owned: BTreeMap<AttachmentId, BTreeSet<RuleItem>>,
    /// How many attachments hold an element, and one of them.
    holders: HashMap<ElementSlot, (usize, AttachmentId)>,
}

/// What there is only one of: an element by its key, and what has no key by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum ElementSlot {
    Key(SetName, Vec<u8>, Option<Vec<u8>>),
    Whole(RuleItem),
}

/// What to take out of the ruleset and to put into it.
#[derive(Debug, Clone, Default)]
pub(super) struct StoreChange {
    pub(super) gone: Vec<(AttachmentId, RuleItem)>,
    pub(super) new: Vec<(AttachmentId, RuleItem)>,
}

impl StoreChange {
    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.new.is_empty()
    }
}

impl ElementStore {
    /// What an earlier run left.
    pub(super) fn found(items: impl Iterator<Item = (RuleItem, Option<AttachmentId>)>) -> Self {
        let mut store = Self::default();
        let mut owned: BTreeMap<AttachmentId, BTreeSet<RuleItem>> = BTreeMap::new();
        let mut shared: BTreeMap<Option<String>, Vec<RuleItem>> = BTreeMap::new();
        for (item, owner) in items {
            let RuleItem::Element(element) = &item else { continue };
            let Some(owner) = owner else {
                shared.entry(element.set.of.clone()).or_default().push(item);
                continue;
            };
            let owned = owned.entry(owner).or_default();
            if let Some(ElementValue::Jump(chain)) = &element.value {
                owned.extend(RuleItem::behind(chain));
            }
            owned.insert(item);
        }
        for (owner, mut items) in owned {
            let groups = items.iter().filter_map(|item| match item {
                RuleItem::Group(_, group) => shared.get(&Some(group.clone())),
                _ => None,
            });
            let bounds: Vec<RuleItem> = groups.flatten().cloned().collect();
            items.extend(bounds);
            store.settle(&owner, items);
        }
        store
    }

    pub(super) fn is_empty(&self) -> bool {
        self.owned.is_empty()
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = &AttachmentId> {
        self.owned.keys()
    }

    pub(super) fn items_of(&self, owner: &AttachmentId) -> Option<&BTreeSet<RuleItem>> {
        self.owned.get(owner)
    }

    /// What must change in the sets for the attachment to have these elements and no others.
    pub(super) fn change(&self, owner: &AttachmentId, items: &BTreeSet<RuleItem>) -> contract::Result<StoreChange> {
        let none = BTreeSet::new();
        let have = self.owned.get(owner).unwrap_or(&none);
        let mut change = StoreChange::default();
        for item in have.difference(items) {
            let last = self.holders.get(&slot(item)).is_none_or(|(count, _)| *count == 1);
            if last {
                change.gone.push((owner.clone(), item.clone()));
            }
        }
        for item in items.difference(have) {
            match self.holders.get(&slot(item)) {
                Some((_, holder)) if !item.is_shared() && holder != owner => return Err(taken(item, holder)),
                Some(_) if item.is_shared() => {}
                _ => change.new.push((owner.clone(), item.clone())),
            }
        }
        Ok(change)
    }

    /// Notes that the change was made.
    pub(super) fn settle(&mut self, owner: &AttachmentId, items: BTreeSet<RuleItem>) {
        for item in self.owned.remove(owner).unwrap_or_default() {
            let slot = slot(&item);
            if let Some((count, _)) = self.holders.get_mut(&slot) {
                *count -= 1;
                if *count == 0 {
                    self.holders.remove(&slot);
                }
            }
        }
        for item in &items {
            self.holders.entry(slot(item)).or_insert_with(|| (0, owner.clone())).0 += 1;
        }
        if !items.is_empty() {
            self.owned.insert(owner.clone(), items);
        }
    }

    /// All there is.
    pub(super) fn all(&self) -> Vec<(AttachmentId, RuleItem)> {
        let mut shared: BTreeSet<&RuleItem> = BTreeSet::new();
        let mut all = Vec::new();
        for (owner, items) in &self.owned {
            let first = items.iter().filter(|item| !item.is_shared() || shared.insert(item));
            all.extend(first.map(|item| (owner.clone(), item.clone())));
        }
        all
    }
}

fn slot(item: &RuleItem) -> ElementSlot {
    match item {
        RuleItem::Element(NftElement { set, key, key_end, .. }) => {
            ElementSlot::Key(set.clone(), key.clone(), key_end.clone())
        }
        whole => ElementSlot::Whole(whole.clone()),
    }
}

fn taken(item: &RuleItem, holder: &AttachmentId) -> Error {
    let what = match item {
        RuleItem::Element(element) => format!("an element of the set {}", element.set.text()),
        other => format!("{other:?}"),
    };
    Error::Conflict { what, by: comment(holder) }
}
