//! The backend: what is asked of the kernel, and candidates from its answers.

use std::net::SocketAddr;

use async_trait::async_trait;
use overlayd_core::{
    contract::{Candidate, CandidateKind, Nat, NatPlan, PathChoice, PeerPaths, Result},
    sync::run_blocking,
};
use overlayd_netlink::Rtnl;

use crate::egress::{EgressAddresses, NetworkFacts};

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
        let egress = run_blocking("look for the host's addresses", look).await?;
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

fn look() -> Result<EgressAddresses> {
    let rtnl = Rtnl::here()?;
    let links = rtnl.links()?;
    let addresses = rtnl.all_addresses()?;
    let routes = rtnl.routes()?;
    Ok(EgressAddresses::of(&NetworkFacts { links: &links, addresses: &addresses, routes: &routes }))
}
