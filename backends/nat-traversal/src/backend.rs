use std::{io, net::SocketAddr};

use async_trait::async_trait;
use overlayd_core::contract::{Candidate, CandidateKind, Error, Nat, NatPlan, PathChoice, PeerPaths, Result};
use overlayd_netlink::Rtnl;

use crate::egress::{Egress, Host};

/// Priority of an address of the host itself, above those seen by servers (50) and those on relays (10).
const HOST: u32 = 100;

/// Finds the host's own addresses, in the network namespace of the caller's threads. It holds no sockets.
#[derive(Debug, Clone, Copy, Default)]
pub struct NatTraversal;

#[async_trait]
impl Nat for NatTraversal {
    fn name(&self) -> &'static str {
        "nat-traversal"
    }

    async fn discover(&self, plan: &NatPlan) -> Result<Vec<Candidate>> {
        let looked = tokio::task::spawn_blocking(look).await;
        let egress =
            looked.unwrap_or_else(|e| Err(Error::host("look for the host's addresses", io::Error::other(e))))?;
        let candidate = |ip| Candidate {
            kind: CandidateKind::Host,
            address: SocketAddr::new(ip, plan.listen_port),
            priority: HOST,
        };
        Ok(egress.addresses().map(candidate).collect())
    }

    async fn paths(&self, _: &NatPlan, _: &[PeerPaths]) -> Result<Vec<PathChoice>> {
        Ok(Vec::new())
    }

    async fn clear(&self) -> Result<()> {
        Ok(())
    }
}

fn look() -> Result<Egress> {
    let host = |error: overlayd_netlink::Error| {
        let (action, source) = error.into_parts();
        Error::host(action, source)
    };
    let rtnl = Rtnl::here().map_err(host)?;
    let links = rtnl.links().map_err(host)?;
    let addresses = rtnl.all_addresses().map_err(host)?;
    let routes = rtnl.routes().map_err(host)?;
    Ok(Egress::of(&Host { links: &links, addresses: &addresses, routes: &routes }))
}
