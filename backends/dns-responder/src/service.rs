//! What all sockets share: the zones as they are now, and the way to ask upstreams.

use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;

use crate::{
    answer::{QueryVerdict, answer, forwarded},
    forward::{ForwardOutcome, ForwardRequest, QueryForwarder},
    shares::{ClientShare, ClientShares},
    wire::QueryTransport,
    zones::ZoneView,
};

/// Most queries that wait for an upstream at a time.
const MAX_WAITING: usize = 2048;
/// Most of them from one client. A resolver repeats an unanswered query after seconds, so an honest one stays far below.
const MAX_WAITING_OF_A_CLIENT: usize = 128;

/// Answers from the newest view and the newest forwarder.
#[derive(Debug)]
pub(crate) struct DnsService {
    pub(crate) view: ArcSwap<ZoneView>,
    pub(crate) forwarder: ArcSwap<QueryForwarder>,
    waiting: Arc<ClientShares>,
}

impl DnsService {
    pub(crate) fn new(view: ZoneView, forwarder: QueryForwarder) -> Self {
        Self {
            view: ArcSwap::from_pointee(view),
            forwarder: ArcSwap::from_pointee(forwarder),
            waiting: ClientShares::new(MAX_WAITING, MAX_WAITING_OF_A_CLIENT),
        }
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

    /// A place among the queries that wait for an upstream; `None` when this client has too many already.
    pub(crate) fn waiting_share(&self, client: IpAddr) -> Option<ClientShare> {
        self.waiting.take(client)
    }

    /// Answers a query that upstreams have to be asked for.
    pub(crate) async fn forward(
        &self,
        query: &[u8],
        transport: QueryTransport,
        wanted: ForwardRequest,
        reply: &mut Vec<u8>,
    ) {
        // The plan may change while this waits; a query ends with the forwarder that it began with.
        let forwarder = Arc::clone(&self.forwarder.load());
        let outcome = forwarder.resolve(wanted).await;
        forwarded(query, transport, &outcome, reply);
    }

    /// Answers a query that there is no room to ask upstreams for.
    pub(crate) fn refuse(&self, query: &[u8], transport: QueryTransport, reply: &mut Vec<u8>) {
        forwarded(query, transport, &ForwardOutcome::Failed, reply);
    }
}
