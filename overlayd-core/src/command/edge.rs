//! What `mint_edge_peer` asks for.

use ipnet::IpNet;

use super::{InvalidRequest, parse};
use crate::desired::EndpointSpec;

/// Most entries of what one edge may reach.
const MOST_GRANTS: usize = 1024;

/// Let a machine outside of the cluster in for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeCommand {
    /// Its name; not empty.
    pub name: String,
    /// For how many seconds.
    pub ttl_secs: u64,
    /// What it may reach.
    pub access: RequestedAccess,
    /// `host:port` under which it reaches this node, as the caller wrote it.
    pub node_endpoint: String,
}

/// What an edge is to reach, before services are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestedAccess {
    /// Everything on the overlay.
    WholeOverlay,
    /// Only these; at least one.
    Only(Vec<EdgeGrant>),
}

/// One entry of what an edge is to reach: a service of this node if there is one of that name, else a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeGrant {
    /// The entry, trimmed.
    pub text: String,
    /// The range that it is, where it reads as one.
    pub range: Option<IpNet>,
}

impl EdgeCommand {
    pub(super) fn new(
        name: &str,
        ttl_secs: u64,
        allow: &[String],
        node_endpoint: String,
    ) -> Result<Self, InvalidRequest> {
        let name = name.trim().to_owned();
        if name.is_empty() {
            return Err(InvalidRequest::new("name", "edge peer name must not be empty"));
        }
        let name = parse::name("name", name)?;
        parse::at_most("allow", MOST_GRANTS, allow.len())?;
        check_endpoint(&node_endpoint)?;
        Ok(Self { name, ttl_secs, access: access(allow)?, node_endpoint })
    }
}

/// A list that names nothing grants nothing, which is an error rather than the whole overlay.
fn access(allow: &[String]) -> Result<RequestedAccess, InvalidRequest> {
    if allow.is_empty() {
        return Ok(RequestedAccess::WholeOverlay);
    }
    let entries = allow.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty());
    let grants: Vec<EdgeGrant> = entries
        .map(|entry| EdgeGrant { text: entry.to_owned(), range: parse::allowed_ip("allow", entry).ok() })
        .collect();
    if grants.is_empty() {
        let reason = "the list names nothing; leave it out to grant the whole overlay";
        return Err(InvalidRequest::new("allow", reason));
    }
    Ok(RequestedAccess::Only(grants))
}

fn check_endpoint(text: &str) -> Result<(), InvalidRequest> {
    match parse::endpoint(text.trim()) {
        Ok(EndpointSpec::Address(_) | EndpointSpec::Name { .. }) => Ok(()),
        Ok(EndpointSpec::Roaming) => {
            Err(InvalidRequest::new("node_endpoint", format_args!("`{text}` cannot be sent to")))
        }
        Err(InvalidRequest { reason, .. }) => Err(InvalidRequest { member: "node_endpoint", reason }),
    }
}
