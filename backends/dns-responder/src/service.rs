//! What the sockets share: the view, and the way to ask others.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{
    answer::{Verdict, Wanted, answer, forwarded},
    forward::Forwarder,
    query::Transport,
    zones::View,
};

/// Answers, from whatever the view is at the moment.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) view: ArcSwap<View>,
    pub(crate) forwarder: ArcSwap<Forwarder>,
}

impl Service {
    pub(crate) fn new(view: View, forwarder: Forwarder) -> Self {
        Self { view: ArcSwap::from_pointee(view), forwarder: ArcSwap::from_pointee(forwarder) }
    }

    /// Answers from what is known or remembered.
    pub(crate) fn respond(&self, query: &[u8], transport: Transport, reply: &mut Vec<u8>) -> Verdict {
        match answer(&self.view.load(), query, transport, reply) {
            Verdict::Forward(wanted) => match self.forwarder.load().remembered(&wanted) {
                Some(outcome) => forwarded(query, transport, &outcome, reply),
                None => Verdict::Forward(wanted),
            },
            verdict => verdict,
        }
    }

    /// Answers by asking others.
    pub(crate) async fn forward(&self, query: &[u8], transport: Transport, wanted: Wanted, reply: &mut Vec<u8>) {
        let forwarder = Arc::clone(&self.forwarder.load());
        let outcome = forwarder.resolve(wanted).await;
        forwarded(query, transport, &outcome, reply);
    }
}
