use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use async_trait::async_trait;
use ipnet::IpNet;

use super::{Handover, Result};

/// Answers names of the overlay and forwards the rest.
#[async_trait]
pub trait Dns: Send + Sync + 'static {
    /// The backend's name in logs, as `dns-responder`.
    fn name(&self) -> &'static str;

    /// Makes everything be as planned, records included. Queries are answered throughout, from the old plan or the new
    /// one; sockets that both plans name stay open.
    async fn apply(&self, plan: &DnsPlan) -> Result<()>;

    /// Applies the changes to the records in order, all or none, at a cost of the changes and not of the records
    /// present. Before a plan was applied this is [`super::Error::NotFound`].
    async fn change_records(&self, changes: &[DnsChange]) -> Result<()>;

    /// Stops answering and frees the sockets.
    async fn clear(&self) -> Result<()>;

    /// How a successor gets what this backend holds in this process; `None` where it holds nothing.
    fn handover(&self) -> Option<&dyn Handover> {
        None
    }
}

/// All that is to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsPlan {
    /// Sockets to answer on, UDP and TCP; no wildcard addresses.
    pub listen: Vec<SocketAddr>,
    /// Zones we are authoritative for, lowercase, without the final dot.
    pub zones: BTreeSet<String>,
    /// Ranges whose reverse names (`in-addr.arpa`, `ip6.arpa`) we are authoritative for, registered or not. Registered
    /// addresses have their reverse names anyway.
    pub reverse: BTreeSet<IpNet>,
    /// Addresses by absolute name, lowercase, without the final dot.
    pub records: BTreeMap<String, BTreeSet<IpAddr>>,
    /// How long others may keep our answers, in whole seconds.
    pub ttl: Duration,
    /// Who is asked for names outside of our zones.
    pub upstreams: Upstreams,
    /// Servers for the names of particular zones (lowercase, without the final dot), instead of the upstreams.
    pub split: BTreeMap<String, Vec<SocketAddr>>,
    /// Most memory that forwarded answers may take, in bytes.
    pub cache_bytes: usize,
}

impl Default for DnsPlan {
    /// No names to answer and no server to ask; five minutes and 4 MiB.
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            zones: BTreeSet::new(),
            reverse: BTreeSet::new(),
            records: BTreeMap::new(),
            ttl: Duration::from_secs(300),
            upstreams: Upstreams::None,
            split: BTreeMap::new(),
            cache_bytes: 4 << 20,
        }
    }
}

/// Who is asked for names outside of our zones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Upstreams {
    /// No server: such names are refused.
    #[default]
    None,
    /// These servers.
    Servers(Vec<SocketAddr>),
    /// The servers of the first of these files (`resolv.conf(5)`) that names any other than this daemon and a local stub;
    /// changes of the files are followed.
    ResolvConf(Vec<PathBuf>),
}

/// One change to the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsChange {
    /// The name (absolute, lowercase, without the final dot) has these addresses from now on; none leaves the name
    /// known, but without records.
    Set(String, BTreeSet<IpAddr>),
    /// The name is no longer known; an unknown one is no error.
    Remove(String),
}
