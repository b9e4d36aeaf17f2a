use std::net::SocketAddr;

use async_trait::async_trait;

use super::Result;
use crate::keys::PublicKey;

/// Finds ways through NATs that we do not control.
#[async_trait]
pub trait Nat: Send + Sync + 'static {
    /// The backend's name in logs, as `nat-traversal`.
    fn name(&self) -> &'static str;

    /// Gathers the addresses under which others may reach this node's WireGuard port.
    async fn discover(&self, plan: &NatPlan) -> Result<Vec<Candidate>>;

    /// Chooses, for each peer that is not reachable, the next address to try; an empty list leaves all as they are.
    async fn paths(&self, plan: &NatPlan, peers: &[PeerPaths]) -> Result<Vec<PathChoice>>;

    /// Ends relays and frees sockets.
    async fn clear(&self) -> Result<()>;
}

/// What traversal may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatPlan {
    /// The node's WireGuard port.
    pub listen_port: u16,
    /// STUN servers, `host:port`.
    pub stun_servers: Vec<String>,
    /// Most addresses to try for one peer.
    pub max_candidates: usize,
}

/// An address a peer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// How it was found.
    pub kind: CandidateKind,
    /// The address.
    pub address: SocketAddr,
    /// Higher is tried first.
    pub priority: u32,
}

/// How a candidate was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateKind {
    /// An address of the host itself.
    Host,
    /// The address a STUN server saw.
    ServerReflexive,
    /// An address on a relay.
    Relay,
}

/// The addresses one peer may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPaths {
    /// Who.
    pub public_key: PublicKey,
    /// Where it may be.
    pub candidates: Vec<Candidate>,
    /// Whether it has spoken lately.
    pub healthy: bool,
}

/// The address to use for a peer from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathChoice {
    /// Who.
    pub public_key: PublicKey,
    /// Where.
    pub candidate: Candidate,
}
