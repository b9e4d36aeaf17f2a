//! What is handed to the forwarder, and what comes back.

use std::{net::SocketAddr, sync::Arc};

use domain::base::message_builder::PushError;

use crate::wire::{EdnsOffer, UpstreamAnswer, UpstreamQuestion};

/// What to ask others for.
#[derive(Debug, Clone)]
pub struct ForwardRequest {
    pub(crate) question: UpstreamQuestion,
    /// The servers of a split zone; `None` is the upstreams.
    pub(crate) servers: Option<Arc<[SocketAddr]>>,
}

impl ForwardRequest {
    /// The message that asks a server.
    pub fn to_message(&self, id: u16) -> Result<Vec<u8>, PushError> {
        self.question.to_message(id, EdnsOffer::Edns)
    }

    /// What a server's message says to it, if it is an answer to the message with this id.
    pub fn understood(&self, message: &[u8], id: u16) -> Option<UpstreamAnswer> {
        UpstreamAnswer::read(message, id, &self.question).ok()
    }
}

/// How asking others ended.
#[derive(Debug, Clone)]
pub enum ForwardOutcome {
    /// They answered, so many seconds ago.
    Answered(Arc<UpstreamAnswer>, u32),
    /// No upstream is configured.
    NoUpstream,
    /// No upstream answered in time.
    Failed,
}
