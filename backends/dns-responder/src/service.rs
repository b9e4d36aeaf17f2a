//! What the sockets share: the view, and the way to ask others.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{
    answer::{QueryVerdict, answer, forwarded},
    forward::{ForwardRequest, QueryForwarder},
    wire::QueryTransport,
    zones::ZoneView,
};

/// Answers, from whatever the view is at the moment.
#[derive(Debug)]
pub(crate) struct DnsService {
    pub(crate) view: ArcSwap<ZoneView>,
    pub(crate) forwarder: ArcSwap<QueryForwarder>,
}

impl DnsService {
    pub(crate) fn new(view: ZoneView, forwarder: QueryForwarder) -> Self {
        Self { view: ArcSwap::from_pointee(view), forwarder: ArcSwap::from_pointee(forwarder) }
    }

    /// Answers from what is known or remembered.
    pub(crate) fn respond(&self, query: &[u8], transport: QueryTransport, reply: &mut Vec<u8>) -> QueryVerdict {
        match answer(&self.view.load(), query, transport, reply) {
            QueryVerdict::Forward(wanted) => match self.forwarder.load().remembered(&wanted) {
                Some(outcome) => forwarded(query, transport, &outcome, reply),
                None => QueryVerdict::Forward(wanted),
            },
            verdict => verdict,
        }
    }

    /// Answers by asking others.
    pub(crate) async fn forward(
        &self,
        query: &[u8],
        transport: QueryTransport,
        wanted: ForwardRequest,
        reply: &mut Vec<u8>,
    ) {
        let forwarder = Arc::clone(&self.forwarder.load());
        let outcome = forwarder.resolve(wanted).await;
        forwarded(query, transport, &outcome, reply);
    }
}
