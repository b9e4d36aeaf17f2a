use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use async_trait::async_trait;

use super::Result;

/// Answers names of the overlay and forwards the rest.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Dns: Send + Sync + 'static {
    /// The backend's name in logs, as `dns-responder`.
    fn name(&self) -> &'static str;

    /// Makes the zones be as planned. Queries are answered throughout, from the old plan or the new one.
    async fn apply(&self, plan: &DnsPlan) -> Result<()>;

    /// Stops answering and frees the sockets.
    async fn clear(&self) -> Result<()>;
}

/// All that is to be answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsPlan {
    /// Sockets to answer on, UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Zones we are authoritative for, lowercase, without the final dot.
    pub zones: BTreeSet<String>,
    /// Addresses by absolute name, lowercase, without the final dot.
    pub records: BTreeMap<String, BTreeSet<IpAddr>>,
}
