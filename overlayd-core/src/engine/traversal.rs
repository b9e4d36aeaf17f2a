//! NAT traversal, as far as there is a backend for it.

use std::sync::{Arc, Mutex, Once};

use super::{Error, context::Context};
use crate::{
    contract::{Candidate, CandidateKind, NatPlan},
    protocol::{NatCandidateWire, NatStatusWire, Response},
    sync::lock,
};

/// STUN servers and candidate pairs when a set-up names none.
const STUN_SERVERS: [&str; 2] = ["stun.l.google.com:19302", "stun1.l.google.com:19302"];
const CANDIDATES: u64 = 10;

/// The candidates of this node: the addresses by which other nodes may reach it.
#[derive(Debug)]
pub(super) struct NatTraversal {
    context: Arc<Context>,
    /// What the last tick found.
    found: Mutex<NatStatusWire>,
}

impl NatTraversal {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self { context: Arc::clone(context), found: Mutex::default() }
    }

    /// Gathers this node's candidates. Disabled traversal has nothing to do.
    pub(super) async fn tick(&self) -> Result<Response, Error> {
        let Some(plan) = self.plan() else { return Ok(Response::Ok) };
        let found = self.context.host.nat.discover(&plan).await?;
        static ONCE: Once = Once::new();
        // Orchestrators tick every few seconds.
        ONCE.call_once(|| {
            tracing::info!(
                "NAT traversal gathers the addresses of this host; asking STUN servers, hole punching and relays are not \
                 part of this build yet"
            );
        });
        *lock(&self.found) = NatStatusWire {
            candidates: found.iter().map(candidate).collect(),
            peers: vec![],
            last_refresh: self.context.now(),
        };
        Ok(Response::Ok)
    }

    /// What the last tick found; nothing when traversal is disabled.
    pub(super) fn status(&self) -> Response {
        // Candidates of before the overlay was removed, or traversal disabled, are not told.
        if self.plan().is_none() {
            return Response::NatStatus(NatStatusWire::default());
        }
        Response::NatStatus(lock(&self.found).clone())
    }

    /// Traversal is enabled unless a set-up said otherwise.
    fn plan(&self) -> Option<NatPlan> {
        let desired = self.context.ledger.desired();
        let overlay = desired.overlay()?;
        let spec = overlay.nat.as_ref();
        if spec.is_some_and(|spec| !spec.enabled) {
            return None;
        }
        let servers = spec.map(|spec| spec.stun_servers.clone()).filter(|servers| !servers.is_empty());
        let most = spec.map(|spec| spec.max_candidate_pairs).filter(|most| *most > 0).unwrap_or(CANDIDATES);
        Some(NatPlan {
            listen_port: overlay.port,
            stun_servers: servers.unwrap_or_else(|| STUN_SERVERS.map(Into::into).to_vec()),
            max_candidates: usize::try_from(most).unwrap_or(usize::MAX),
        })
    }
}

fn candidate(candidate: &Candidate) -> NatCandidateWire {
    let kind = match candidate.kind {
        CandidateKind::Host => "host",
        CandidateKind::ServerReflexive => "server-reflexive",
        CandidateKind::Relay => "relay",
    };
    NatCandidateWire {
        candidate_type: kind.into(),
        address: candidate.address.to_string(),
        priority: candidate.priority,
    }
}
