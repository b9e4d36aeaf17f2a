//! Minting an edge peer.

use ipnet::IpNet;

use super::Edges;
use crate::{
    command::{EdgeCommand, EdgeGrant, RequestedAccess},
    contract::AttachmentId,
    desired::{Change, Desired, DeviceScope, EdgeAccess, EdgeRecord, GrantedRanges, PeerId},
    engine::{
        Error,
        attachments::{KEEPALIVE_SECS, issued_peer},
        leases::{end_rest, pick_slice_ip},
        ledger::Undo,
        locks::Entered,
    },
    keys::PrivateKey,
    plan,
    protocol::{EdgeConfig, PeerSpec, Response},
};

impl Edges {
    /// The fence stands before the edge's key is let in.
    pub(in crate::engine) async fn mint(
        &self,
        entered: &mut Entered<'_>,
        asked: EdgeCommand,
    ) -> Result<Response, Error> {
        let EdgeCommand { name, ttl_secs, access, node_endpoint } = asked;
        let _edge = self.context.locks.edge(entered, &name).await;
        // Not kept: it leaves this node with the answer, and an edge that loses it is minted anew.
        let key = PrivateKey::generate();
        let issued = PeerId { scope: DeviceScope::Global, public_key: key.public_key() };
        let now = self.context.now();
        self.peers.keep_out(&issued);
        let decided = self
            .context
            .ledger
            .decide(|desired| {
                let edge = new_edge(desired, &name, ttl_secs, &access, &key, now)?;
                let mut changes = end_rest(desired, edge.ip);
                changes.push(Change::Edge(name.clone(), Some(edge.clone())));
                changes.push(Change::Peer(issued.clone(), Some(issued_peer(edge.ip))));
                Ok((changes, edge))
            })
            .await;
        let (undo, edge) = decided.inspect_err(|_| self.peers.has_no_record(&issued))?;
        if let Err(error) = self.let_in(&name, &edge, &issued).await {
            self.withdraw(&name, edge, &issued, undo).await?;
            return Err(error);
        }
        // The sweep may be asleep for longer than this edge is to live.
        self.minted.notify_one();
        tracing::info!(edge = name, ip = %edge.ip, expires_at = edge.expires_at, "an edge peer is let in");
        Ok(Response::EdgeConfig(self.config(name, &edge, &key, node_endpoint)))
    }

    async fn let_in(&self, name: &str, edge: &EdgeRecord, issued: &PeerId) -> Result<(), Error> {
        self.ensure_fence(name, edge).await?;
        self.peers.let_in(issued).await
    }

    /// Takes a refused edge back. While the host cannot be cleaned of it, its record stays as that of an edge whose time
    /// is over, which the sweep removes as soon as it can, and nothing lets in again.
    async fn withdraw(&self, name: &str, edge: EdgeRecord, issued: &PeerId, undo: Undo) -> Result<(), Error> {
        let cleaned = match self.peers.remove_issued(issued).await {
            Ok(_) => self.context.host.networks.detach(&AttachmentId::Edge(name.to_owned())).await,
            Err(error) => Err(error),
        };
        let Err(error) = cleaned else {
            return self.context.ledger.withdraw(undo).await.inspect(|()| self.peers.has_no_record(issued));
        };
        tracing::warn!(edge = name, %error, "the host could not be cleaned of a refused edge; the sweep tries again");
        let over = EdgeRecord { expires_at: 0, ..edge };
        self.context
            .ledger
            .record(|_| Ok(vec![Change::Edge(name.to_owned(), Some(over)), Change::Peer(issued.clone(), None)]))
            .await
            .inspect(|()| self.peers.has_no_record(issued))
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
    ttl_secs: u64,
    access: &RequestedAccess,
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
        access: granted(desired, access)?,
        ip: pick_slice_ip(desired, now)?,
        public_key: key.public_key(),
        minted_at: now,
        expires_at: now.saturating_add(ttl_secs),
    })
}

/// CIDRs and addresses as they are, services as their blocks.
fn granted(desired: &Desired, access: &RequestedAccess) -> Result<EdgeAccess, Error> {
    let RequestedAccess::Only(grants) = access else { return Ok(EdgeAccess::WholeOverlay) };
    let ranges = grants.iter().map(|grant| range_of(desired, grant)).collect::<Result<Vec<IpNet>, _>>()?;
    let ranges = GrantedRanges::new(ranges);
    ranges.map(EdgeAccess::Only).ok_or_else(|| Error::invalid("allow", "the list names nothing"))
}

fn range_of(desired: &Desired, EdgeGrant { text, range }: &EdgeGrant) -> Result<IpNet, Error> {
    let cluster = desired.cluster().trunc();
    let range = desired.service(text).map(|service| service.block).or(*range).ok_or_else(|| {
        let reason = format_args!("`{text}` is neither a CIDR, nor an address, nor a service of this node");
        Error::invalid("allow", reason)
    })?;
    if cluster.contains(&range) {
        Ok(range)
    } else {
        Err(Error::invalid("allow", format_args!("`{text}` is not inside the cluster range {cluster}")))
    }
}
