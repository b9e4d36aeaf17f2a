//! What is answered: zones, names and addresses in one snapshot that never changes. A change makes a new snapshot which
//! shares all but the changed parts with the old one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use domain::base::Ttl;
use ipnet::IpNet;
use rpds::{HashTrieMapSync, RedBlackTreeSetSync};

use crate::{
    name::{NameKey, ancestors},
    reverse::{self, ReverseName},
};

/// The settings of a plan, which changes of records do not touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ZoneSettings {
    /// Apexes of our zones and of split zones.
    pub(crate) zones: BTreeMap<NameKey, ZoneSource>,
    /// Ranges whose reverse names are ours.
    pub(crate) reverse: BTreeSet<IpNet>,
    /// How long others may keep our answers.
    pub(crate) ttl: Ttl,
    /// Addresses of the name server of our zones.
    pub(crate) server: Arc<[IpAddr]>,
    /// The name that serves reverse zones.
    pub(crate) server_name: Option<NameKey>,
}

/// Who knows the names of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ZoneSource {
    /// We do; the name is the zone's name server.
    Local(NameKey),
    /// These servers do.
    Split(Arc<[SocketAddr]>),
}

/// Everything that is answered, at one moment.
#[derive(Debug, Clone)]
pub struct ZoneView {
    pub(crate) settings: Arc<ZoneSettings>,
    /// Grows with every change.
    pub(crate) serial: u32,
    names: HashTrieMapSync<NameKey, Arc<[IpAddr]>>,
    /// The same names in order, for those that exist only as a part of others.
    tree: RedBlackTreeSetSync<NameKey>,
    pointers: RedBlackTreeSetSync<(IpAddr, NameKey)>,
}

/// Who answers for a name.
#[derive(Debug)]
pub(crate) enum NameLookup<'v> {
    /// We do.
    Local(LocalName<'v>),
    /// These servers do.
    Split(&'v Arc<[SocketAddr]>),
    /// The upstreams do, if anyone.
    Upstream,
}

/// A name in a local zone, or where it would be.
#[derive(Debug)]
pub(crate) struct LocalName<'v> {
    /// The zone's key: this much of the name's own.
    pub(crate) apex_len: usize,
    /// The zone's name server.
    pub(crate) server_name: Option<&'v NameKey>,
    /// What is there.
    pub(crate) kind: NameContent<'v>,
}

/// What can be at a name in a local zone.
#[derive(Debug)]
pub(crate) enum NameContent<'v> {
    /// Nothing, not even below it.
    Absent,
    /// The name exists; its addresses, in order, may be none.
    Addresses(&'v [IpAddr]),
    /// The reverse name of an address that has names.
    Pointer(IpAddr),
}

impl ZoneView {
    /// Nothing yet.
    pub(crate) fn empty(settings: Arc<ZoneSettings>, serial: u32) -> Self {
        Self {
            settings,
            serial,
            names: HashTrieMapSync::default(),
            tree: RedBlackTreeSetSync::default(),
            pointers: RedBlackTreeSetSync::default(),
        }
    }

    /// Whether both answer the same, serials aside.
    pub(crate) fn same_answers(&self, other: &Self) -> bool {
        self.settings == other.settings && self.names == other.names
    }

    /// Gives the name these addresses instead of those it had.
    pub(crate) fn set(&mut self, name: NameKey, addresses: &BTreeSet<IpAddr>) {
        self.forget_pointers(&name);
        for ip in addresses {
            self.pointers.insert_mut((*ip, name.clone()));
        }
        self.tree.insert_mut(name.clone());
        self.names.insert_mut(name, addresses.iter().copied().collect());
    }

    /// Removes the name and its reverse names.
    pub(crate) fn remove(&mut self, name: &NameKey) {
        self.forget_pointers(name);
        self.tree.remove_mut(name);
        self.names.remove_mut(name);
    }

    fn forget_pointers(&mut self, name: &NameKey) {
        let old = self.names.get(name).cloned().unwrap_or_default();
        for ip in old.iter() {
            self.pointers.remove_mut(&(*ip, name.clone()));
        }
    }

    /// The local zone that the name is in, or would be.
    pub(crate) fn zone_of(&self, name: &[u8]) -> Option<&NameKey> {
        match self.longest_zone(name) {
            Some((apex, ZoneSource::Local(_))) => Some(apex),
            Some((_, ZoneSource::Split(_))) | None => None,
        }
    }

    /// The names of an address, in order.
    pub(crate) fn names_of(&self, ip: IpAddr) -> impl Iterator<Item = &NameKey> {
        self.pointers.range((ip, NameKey::root())..).take_while(move |(of, _)| *of == ip).map(|(_, name)| name)
    }

    /// What is known of a name, given by its key.
    pub(crate) fn find(&self, name: &[u8]) -> NameLookup<'_> {
        let zone = self.longest_zone(name);
        // A planned zone below a reverse range, or around one, wins by the longer suffix, as delegation would have it.
        if let Some(range) = reverse::parse(name)
            && let Some(apex_len) = self.reverse_apex(name, range.range())
            && zone.is_none_or(|(apex, _)| apex.len() < apex_len)
        {
            let kind = self.reverse_kind(range, apex_len == name.len());
            return NameLookup::Local(LocalName { apex_len, server_name: self.settings.server_name.as_ref(), kind });
        }
        match zone {
            Some((apex, ZoneSource::Local(server))) => {
                let kind = match reverse::parse(name) {
                    Some(range) => self.reverse_kind(range, apex.len() == name.len()),
                    None => self.kind(name, apex, server),
                };
                NameLookup::Local(LocalName { apex_len: apex.len(), server_name: Some(server), kind })
            }
            Some((_, ZoneSource::Split(servers))) => NameLookup::Split(servers),
            None => NameLookup::Upstream,
        }
    }

    fn kind(&self, name: &[u8], apex: &[u8], server: &[u8]) -> NameContent<'_> {
        match self.names.get(name) {
            Some(addresses) => NameContent::Addresses(addresses),
            None if name == server => NameContent::Addresses(&self.settings.server),
            // An empty non-terminal exists: NXDOMAIN here would deny the names below it (RFC 8020).
            None if name.len() == apex.len() || self.has_descendant(name) => NameContent::Addresses(&[]),
            None => NameContent::Absent,
        }
    }

    fn reverse_kind(&self, name: ReverseName, is_apex: bool) -> NameContent<'_> {
        match name {
            ReverseName::Range(range) if range.prefix_len() == range.max_prefix_len() => {
                match self.names_of(range.addr()).next() {
                    Some(_) => NameContent::Pointer(range.addr()),
                    None => NameContent::Absent,
                }
            }
            ReverseName::Range(range) if is_apex || self.has_address_in(&range) => NameContent::Addresses(&[]),
            ReverseName::Range(_) | ReverseName::Below(_) => NameContent::Absent,
        }
    }

    /// The length of the reverse zone's key, where it is local: part of a planned range, or one registered address.
    fn reverse_apex(&self, name: &[u8], asked: IpNet) -> Option<usize> {
        let ranges = self.settings.reverse.iter().filter(|range| range.contains(&asked));
        let labels = ranges.map(reverse::apex_labels).max();
        let complete = asked.prefix_len() == asked.max_prefix_len();
        let single =
            || (complete && self.names_of(asked.addr()).next().is_some()).then(|| reverse::apex_labels(&asked));
        ancestors(name).nth(labels.or_else(single)? - 1).map(<[u8]>::len)
    }

    fn has_descendant(&self, name: &[u8]) -> bool {
        self.tree
            .range::<[u8], _>((std::ops::Bound::Included(name), std::ops::Bound::Unbounded))
            .next()
            .is_some_and(|next| next.starts_with(name))
    }

    fn has_address_in(&self, range: &IpNet) -> bool {
        let next = self.pointers.range((range.network(), NameKey::root())..).next();
        next.is_some_and(|(ip, _)| range.contains(ip))
    }

    fn longest_zone(&self, name: &[u8]) -> Option<(&NameKey, &ZoneSource)> {
        ancestors(name).filter_map(|key| self.settings.zones.get_key_value(key)).last()
    }
}
