//! Names: what was registered, as a resolver should answer it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use crate::{
    contract::{DnsChange, DnsPlan, Upstreams},
    desired::Desired,
};

/// How this node answers names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// When to answer.
    pub serve: ServeDns,
    /// Where to answer.
    pub listen: DnsListen,
    /// Zones of ours beside `{deployment}.local`, lowercase, without the final dot.
    pub zones: BTreeSet<String>,
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

/// Where to answer names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsListen {
    /// At the node's overlay address, on this port.
    Node(u16),
    /// At these sockets.
    Sockets(Vec<SocketAddr>),
}

impl Default for DnsConfig {
    /// Port 53 of the node's overlay address, and the host's own upstreams; the rest as [`DnsPlan`] has it.
    fn default() -> Self {
        let DnsPlan { ttl, cache_bytes, .. } = DnsPlan::default();
        Self {
            serve: ServeDns::default(),
            listen: DnsListen::Node(53),
            zones: BTreeSet::new(),
            ttl,
            // The second names the servers behind the stub of systemd-resolved that the first may name.
            upstreams: Upstreams::ResolvConf(vec![
                PathBuf::from("/etc/resolv.conf"),
                PathBuf::from("/run/systemd/resolve/resolv.conf"),
            ]),
            split: BTreeMap::new(),
            cache_bytes,
        }
    }
}

/// The zone of a deployment.
pub fn deployment_zone(deployment: &str) -> String {
    format!("{}.local", deployment.to_ascii_lowercase())
}

/// A registered name as an absolute one without the final dot: relative names get the deployment's zone.
pub fn absolute_name(name: &str, zone: &str) -> String {
    name.strip_suffix('.').map_or_else(|| format!("{name}.{zone}"), str::to_owned)
}

/// Whether an absolute name lies in a zone of ours.
pub fn in_a_zone(plan: &DnsPlan, name: &str) -> bool {
    plan.zones.iter().any(|zone| name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
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

/// Every registered name of our zones.
pub fn dns_records(desired: &Desired, plan: &DnsPlan, zone: &str) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut records = BTreeMap::<_, BTreeSet<IpAddr>>::new();
    for (name, addresses) in desired.dns() {
        let name = absolute_name(name, zone);
        if in_a_zone(plan, &name) {
            records.entry(name).or_default().extend(addresses);
        }
    }
    records
}

/// What is registered for an absolute name now, under its relative and its absolute form.
pub fn dns_change(desired: &Desired, name: &str, zone: &str) -> DnsChange {
    let relative = name.strip_suffix(zone).and_then(|rest| rest.strip_suffix('.'));
    let registered = |form: &str| desired.dns().get(form);
    let forms = [relative.and_then(registered), registered(&format!("{name}."))];
    if forms.iter().all(Option::is_none) {
        return DnsChange::Remove(name.to_owned());
    }
    DnsChange::Set(name.to_owned(), forms.into_iter().flatten().flatten().copied().collect())
}
