//! The suite for [`Nat`].

use std::net::SocketAddr;

use async_trait::async_trait;
use overlayd_core::{
    contract::{Candidate, CandidateKind, Nat, NatPlan, PeerPaths},
    keys::PublicKey,
};

/// How the suite reaches a backend.
#[async_trait]
pub trait NatHarness: Send {
    /// The backend under test, on a host that has at least one address to be reached by.
    fn backend(&self) -> &dyn Nat;
}

/// Without any server the host's own addresses are candidates, with the WireGuard port.
pub async fn discovery_finds_an_address_of_the_host<H: NatHarness>(h: &mut H) {
    let found = h.backend().discover(&plan()).await.expect("a discovery");
    let own: Vec<_> = found.iter().filter(|candidate| candidate.kind == CandidateKind::Host).collect();
    assert!(!own.is_empty(), "no host candidate in {found:?}");
    assert!(own.iter().all(|candidate| candidate.address.port() == 51820), "{own:?}");
}

/// Discovery is a question; it changes nothing.
pub async fn discovering_twice_finds_the_same<H: NatHarness>(h: &mut H) {
    let first = h.backend().discover(&plan()).await.expect("a discovery");
    assert_eq!(h.backend().discover(&plan()).await.expect("a discovery"), first);
}

/// A peer that speaks keeps its address.
pub async fn a_healthy_peer_is_left_alone<H: NatHarness>(h: &mut H) {
    let peer = PeerPaths { healthy: true, ..peer(&["192.0.2.1:51820"]) };
    assert_eq!(h.backend().paths(&plan(), &[peer]).await.expect("choices"), []);
}

/// An address that no plan names is never tried.
pub async fn a_choice_is_one_of_the_peers_candidates<H: NatHarness>(h: &mut H) {
    let peer = peer(&["192.0.2.1:51820", "192.0.2.2:51820"]);
    for choice in h.backend().paths(&plan(), std::slice::from_ref(&peer)).await.expect("choices") {
        assert_eq!(choice.public_key, peer.public_key);
        assert!(peer.candidates.contains(&choice.candidate));
    }
}

/// Where nothing is known nothing is chosen.
pub async fn a_peer_without_candidates_gets_no_choice<H: NatHarness>(h: &mut H) {
    assert_eq!(h.backend().paths(&plan(), &[peer(&[])]).await.expect("choices"), []);
}

/// Stopping what does not run succeeds.
pub async fn clearing_twice_succeeds<H: NatHarness>(h: &mut H) {
    for _ in 0..2 {
        h.backend().clear().await.expect("an end");
    }
}

fn plan() -> NatPlan {
    NatPlan { listen_port: 51820, stun_servers: Vec::new(), max_candidates: 6 }
}

fn peer(addresses: &[&str]) -> PeerPaths {
    let candidate = |text: &&str| Candidate {
        kind: CandidateKind::Host,
        address: text.parse::<SocketAddr>().expect("an address"),
        priority: 100,
    };
    PeerPaths {
        public_key: PublicKey::from_bytes([7; 32]),
        candidates: addresses.iter().map(candidate).collect(),
        healthy: false,
    }
}
