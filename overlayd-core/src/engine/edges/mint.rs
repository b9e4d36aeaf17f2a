//! Minting an edge peer.

use ipnet::IpNet;

use super::Edges;
use crate::{
    contract::AttachmentId,
    desired::{Change, Desired, DeviceScope, EdgeAccess, EdgeRecord, EndpointSpec, GrantedRanges, PeerId},
    engine::{
        Error,
        attachments::{KEEPALIVE_SECS, issued_peer},
        leases::{end_rest, pick_slice_ip},
        ledger::Undo,
        locks::Entered,
        parse,
    },
    keys::PrivateKey,
    plan,
    protocol::{EdgeConfig, PeerSpec, Response},
};

/// Most entries of what one edge may reach.
const MOST_GRANTS: usize = 1024;

/// An edge peer as it was asked for.
pub(in crate::engine) struct EdgeRequest {
    pub(in crate::engine) name: String,
    pub(in crate::engine) ttl_secs: u64,
    pub(in crate::engine) allow: Vec<String>,
    pub(in crate::engine) node_endpoint: String,
}

impl Edges {
    /// The fence stands before the edge's key is let in.
    pub(in crate::engine) async fn mint(
        &self,
        entered: &mut Entered<'_>,
        asked: EdgeRequest,
    ) -> Result<Response, Error> {
        let name = asked.name.trim().to_owned();
        if name.is_empty() {
            return Err(Error::invalid("name", "edge peer name must not be empty"));
        }
        parse::name("name", &name)?;
        parse::at_most("allow", MOST_GRANTS, asked.allow.len())?;
        check_endpoint(&asked.node_endpoint)?;
        let _edge = self.context.locks.edge(entered, &name).await;
        let key = PrivateKey::generate();
        let issued = PeerId { scope: DeviceScope::Global, public_key: key.public_key() };
        let now = self.context.now();
        let (undo, edge) = self
            .context
            .ledger
            .decide(|desired| {
                let edge = new_edge(desired, &name, &asked, &key, now)?;
                let mut changes = end_rest(desired, edge.ip);
                changes.push(Change::Edge(name.clone(), Some(edge.clone())));
                changes.push(Change::Peer(issued.clone(), Some(issued_peer(edge.ip))));
                Ok((changes, edge))
            })
            .await?;
        if let Err(error) = self.let_in(&name, &edge, &issued).await {
            self.withdraw(&name, edge, &issued, undo).await?;
            return Err(error);
        }
        self.minted.notify_one();
        tracing::info!(edge = name, ip = %edge.ip, expires_at = edge.expires_at, "an edge peer is let in");
        Ok(Response::EdgeConfig(self.config(name, &edge, &key, asked.node_endpoint)))
    }

    async fn let_in(&self, name: &str, edge: &EdgeRecord, issued: &PeerId) -> Result<(), Error> {
        self.ensure_fence(name, edge).await?;
        self.peers.send(std::slice::from_ref(issued)).await
    }

    /// Takes a refused edge back. While the host cannot be cleaned of it, its record stays as that of an edge whose time
    /// is over, which the sweep removes as soon as it can, and nothing lets in again.
    async fn withdraw(&self, name: &str, edge: EdgeRecord, issued: &PeerId, undo: Undo) -> Result<(), Error> {
        let cleaned = match self.peers.remove_issued(issued).await {
            Ok(_) => self.context.host.networks.detach(&AttachmentId::Edge(name.to_owned())).await,
            Err(error) => Err(error),
        };
        let Err(error) = cleaned else { return self.context.ledger.withdraw(undo).await };
        tracing::warn!(edge = name, %error, "the host could not be cleaned of a refused edge; the sweep tries again");
        let over = EdgeRecord { expires_at: 0, ..edge };
        self.context
            .ledger
            .record(|_| Ok(vec![Change::Edge(name.to_owned(), Some(over)), Change::Peer(issued.clone(), None)]))
            .await
    }

    fn config(&self, name: String, edge: &EdgeRecord, key: &PrivateKey, endpoint: String) -> EdgeConfig {
        let desired = self.context.ledger.desired();
        let ranges: Vec<String> = plan::edge_ranges(&desired, edge).iter().map(ToString::to_string).collect();
        let node = PeerSpec {
            public_key: self.context.identity.public_key().to_base64(),
            endpoint,
            allowed_ips: ranges.join(","),
            persistent_keepalive_secs: KEEPALIVE_SECS,
            candidates: vec![],
        };
        EdgeConfig {
            version: EdgeConfig::VERSION,
            name,
            overlay_ip: edge.ip,
            prefix_len: desired.slice().prefix_len(),
            private_key: key.reveal_base64().into(),
            public_key: edge.public_key.to_base64(),
            peers: vec![node],
            dns_server: desired.resolver().server,
            dns_domain: desired.resolver().domain.clone(),
            expires_at_unix: edge.expires_at,
        }
    }
}

fn new_edge(
    desired: &mut Desired,
    name: &str,
    asked: &EdgeRequest,
    key: &PrivateKey,
    now: u64,
) -> Result<EdgeRecord, Error> {
    if desired.edges().contains_key(name) {
        return Err(Error::Conflict(format!("edge peer {name} is already minted; revoke it before re-minting")));
    }
    if desired.overlay().is_none() {
        return Err(Error::Missing("edge peers require the global overlay; call setup_global_overlay() first".into()));
    }
    Ok(EdgeRecord {
        access: grants(desired, &asked.allow)?,
        ip: pick_slice_ip(desired, now)?,
        public_key: key.public_key(),
        minted_at: now,
        expires_at: now.saturating_add(asked.ttl_secs),
    })
}

/// CIDRs and addresses as they are, services as their blocks. A list that names nothing grants nothing, which is an
/// error rather than the whole overlay.
fn grants(desired: &Desired, allow: &[String]) -> Result<EdgeAccess, Error> {
    if allow.is_empty() {
        return Ok(EdgeAccess::WholeOverlay);
    }
    let cluster = desired.cluster().trunc();
    let mut ranges: Vec<IpNet> = Vec::new();
    for entry in allow.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty()) {
        let range = match (parse::allowed_ip("allow", entry), desired.service(entry)) {
            (_, Some(service)) => service.block,
            (Ok(range), None) => range,
            (Err(_), None) => {
                let reason = format_args!("`{entry}` is neither a CIDR, nor an address, nor a service of this node");
                return Err(Error::invalid("allow", reason));
            }
        };
        if !cluster.contains(&range) {
            return Err(Error::invalid("allow", format_args!("`{entry}` is not inside the cluster range {cluster}")));
        }
        ranges.push(range);
    }
    GrantedRanges::new(ranges)
        .map(EdgeAccess::Only)
        .ok_or_else(|| Error::invalid("allow", "the list names nothing; leave it out to grant the whole overlay"))
}

fn check_endpoint(text: &str) -> Result<(), Error> {
    match parse::endpoint(text.trim()) {
        Ok(EndpointSpec::Address(_) | EndpointSpec::Name { .. }) => Ok(()),
        Ok(EndpointSpec::Roaming) => {
            Err(Error::invalid("node_endpoint", format_args!("`{text}` is nowhere to send to")))
        }
        Err(Error::Invalid { reason, .. }) => Err(Error::Invalid { member: "node_endpoint", reason }),
        Err(error) => Err(error),
    }
}
