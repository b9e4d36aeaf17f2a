//! Names: what was registered, as a resolver should answer it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    contract::{DnsChange, DnsPlan, Upstreams},
    desired::{Desired, Phase},
    names::is_dns_name,
};

/// How this node answers names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// When to answer.
    pub serve: ServeDns,
    /// Where to answer.
    pub listen: DnsListen,
    /// Zones we answer for in addition to `{deployment}.local`, lowercase, without the final dot.
    pub zones: BTreeSet<String>,
    /// Whether services have names without being registered.
    pub service_names: ServiceNames,
    /// How long others may keep our answers.
    pub ttl: Duration,
    /// Who is asked for other names.
    pub upstreams: Upstreams,
    /// Servers for the names of particular zones, instead of the upstreams.
    pub split: BTreeMap<String, Vec<SocketAddr>>,
    /// Most memory that forwarded answers may take, in bytes.
    pub cache_bytes: usize,
}

/// When to answer names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServeDns {
    /// Once a name is registered, so that an orchestrator that answers names itself is left alone.
    #[default]
    OnceRegistered,
    /// As soon as there is an overlay.
    Always,
    /// Never; names are only recorded.
    Never,
}

/// Whether services have names without being registered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServiceNames {
    /// They have none.
    #[default]
    Off,
    /// `{service}.{deployment}.local` has the addresses of what is attached to the service on this node, unless that
    /// name is registered. Only services whose name is a lowercase DNS name have one.
    Attached,
}

/// Most addresses of a name: more do not fit into an answer.
pub const MOST_ADDRESSES: usize = 1000;

/// Where to answer names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsListen {
    /// At the node's overlay address, on this port.
    Node(u16),
    /// At these sockets.
    Sockets(Vec<SocketAddr>),
}

impl Default for DnsConfig {
    /// Port 53 of the node's overlay address, no upstreams; the rest as [`DnsPlan`] has it. Where the host keeps its
    /// own servers is for the daemon's platform to say.
    fn default() -> Self {
        let DnsPlan { ttl, cache_bytes, .. } = DnsPlan::default();
        Self {
            serve: ServeDns::default(),
            listen: DnsListen::Node(53),
            zones: BTreeSet::new(),
            service_names: ServiceNames::default(),
            ttl,
            upstreams: Upstreams::None,
            split: BTreeMap::new(),
            cache_bytes,
        }
    }
}

/// The zone of a deployment.
pub fn deployment_zone(deployment: &str) -> String {
    format!("{}.local", deployment.to_ascii_lowercase())
}

/// All but the records; `None` until there is an overlay.
pub fn dns(desired: &Desired, config: &DnsConfig) -> Option<DnsPlan> {
    let overlay = desired.overlay()?;
    let listen = match &config.listen {
        DnsListen::Node(port) => vec![SocketAddr::new(desired.node_ip()?, *port)],
        DnsListen::Sockets(sockets) => sockets.clone(),
    };
    let mut zones = config.zones.clone();
    zones.insert(deployment_zone(&overlay.deployment));
    Some(DnsPlan {
        listen,
        zones,
        reverse: BTreeSet::from([overlay.cluster]),
        records: BTreeMap::new(),
        ttl: config.ttl,
        upstreams: config.upstreams.clone(),
        split: config.split.clone(),
        cache_bytes: config.cache_bytes,
    })
}

/// What names are reckoned with: the zones, and where the names come from.
#[derive(Debug, Clone, Copy)]
pub struct Naming<'a> {
    /// The zones we answer for.
    pub plan: &'a DnsPlan,
    /// The deployment's zone, which relative names get.
    pub zone: &'a str,
    /// Whether services have names.
    pub service_names: ServiceNames,
}

impl Naming<'_> {
    /// A registered name as an absolute one without the final dot: names with a final dot and names that lie in a zone of
    /// ours are absolute, others get the deployment's zone.
    pub fn absolute(&self, name: &str) -> String {
        match name.strip_suffix('.') {
            Some(absolute) => absolute.to_owned(),
            None if self.is_below_a_zone(name) => name.to_owned(),
            None => format!("{name}.{}", self.zone),
        }
    }

    /// Whether an absolute name lies in a zone we answer for, and is short enough to be one.
    pub fn is_ours(&self, name: &str) -> bool {
        is_dns_name(name) && self.is_below_a_zone(name)
    }

    fn is_below_a_zone(&self, name: &str) -> bool {
        self.plan
            .zones
            .iter()
            .any(|zone| name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    }

    /// Every name of our zones with its addresses. A registered one has those that it was registered with and no others.
    pub fn records(&self, desired: &Desired) -> BTreeMap<String, BTreeSet<IpAddr>> {
        let mut registered = BTreeMap::<_, BTreeSet<IpAddr>>::new();
        for (name, addresses) in desired.dns() {
            let name = self.absolute(name);
            if self.is_ours(&name) {
                registered.entry(name).or_default().extend(addresses);
            }
        }
        let services = desired.services_with_members().filter_map(|service| {
            let addresses = self.attached(desired, service);
            (!addresses.is_empty()).then(|| (self.of_service(service), addresses))
        });
        let mut records: BTreeMap<_, _> = services.collect();
        records.extend(registered);
        records
    }

    /// What an absolute name has now, in all its forms.
    pub fn change(&self, desired: &Desired, name: &str) -> DnsChange {
        let relative = name.strip_suffix(self.zone).and_then(|rest| rest.strip_suffix('.'));
        let absolute = format!("{name}.");
        let forms = [relative.filter(|form| !self.is_below_a_zone(form)), Some(name), Some(absolute.as_str())];
        let registered: Vec<_> = forms.into_iter().flatten().filter_map(|form| desired.dns().get(form)).collect();
        if !registered.is_empty() {
            return DnsChange::Set(name.to_owned(), registered.into_iter().flatten().copied().collect());
        }
        let attached = relative.map(|service| self.attached(desired, service)).unwrap_or_default();
        if attached.is_empty() { DnsChange::Remove(name.to_owned()) } else { DnsChange::Set(name.to_owned(), attached) }
    }

    /// The registered names that lie in none of our zones, and that are not answered therefore.
    pub fn strangers<'d>(&self, desired: &'d Desired) -> Vec<&'d str> {
        let names = desired.dns().keys().map(String::as_str);
        names.filter(|name| !self.is_ours(&self.absolute(name))).collect()
    }

    /// The absolute name of a service.
    pub fn of_service(&self, service: &str) -> String {
        format!("{service}.{}", self.zone)
    }

    /// The addresses of what is attached to a service, if it has a name at all.
    fn attached(&self, desired: &Desired, service: &str) -> BTreeSet<IpAddr> {
        let named = match self.service_names {
            ServiceNames::Off => false,
            ServiceNames::Attached => {
                !service.bytes().any(|byte| byte.is_ascii_uppercase()) && is_dns_name(&self.of_service(service))
            }
        };
        let members = desired.members(service).filter(|_| named).filter_map(|handle| desired.attachment(handle));
        members
            .filter(|record| record.phase == Phase::Wanted)
            .map(|record| record.service_ip)
            .take(MOST_ADDRESSES)
            .collect()
    }
}
