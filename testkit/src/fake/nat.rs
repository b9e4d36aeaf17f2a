use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use overlayd_core::contract::{Candidate, Nat, NatPlan, PathChoice, PeerPaths, Result};

use super::FaultScript;

/// A traversal in memory: it finds the candidates it was told of, and tries a peer's candidates by priority.
#[derive(Debug, Clone, Default)]
pub struct FakeNat {
    own: Arc<Mutex<Vec<Candidate>>>,
    script: FaultScript,
}

impl FakeNat {
    /// The record of calls, and the way to make some fail.
    pub fn script(&self) -> &FaultScript {
        &self.script
    }

    /// What the next discoveries find.
    pub fn set_candidates(&self, candidates: Vec<Candidate>) {
        *self.own() = candidates;
    }

    fn own(&self) -> MutexGuard<'_, Vec<Candidate>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Nat for FakeNat {
    fn name(&self) -> &'static str {
        "fake-nat"
    }

    async fn discover(&self, _plan: &NatPlan) -> Result<Vec<Candidate>> {
        self.script.enter("discover", "").await?;
        Ok(self.own().clone())
    }

    async fn paths(&self, plan: &NatPlan, peers: &[PeerPaths]) -> Result<Vec<PathChoice>> {
        self.script.enter("paths", "").await?;
        Ok(peers.iter().filter(|peer| !peer.healthy).filter_map(|peer| best(plan, peer)).collect())
    }

    async fn clear(&self) -> Result<()> {
        self.script.enter("clear", "").await.map(drop)
    }
}

fn best(plan: &NatPlan, peer: &PeerPaths) -> Option<PathChoice> {
    let tried = peer.candidates.iter().take(plan.max_candidates);
    let candidate = *tried.max_by_key(|candidate| candidate.priority)?;
    Some(PathChoice { public_key: peer.public_key, candidate })
}
