//! Names outside of the local zones. Each question is put to an upstream once at a time, and the answer is remembered
//! as long as it allows.

mod cache;
mod exchange;
mod request;
mod upstreams;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use overlayd_core::{contract::Upstreams, sync::lock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub use self::request::{ForwardOutcome, ForwardRequest};
use self::{cache::AnswerCache, exchange::ask, upstreams::UpstreamServers};
use crate::wire::{UpstreamAnswer, UpstreamQuestion};

/// Questions that upstreams are asked at a time; more fail at once. Each has a socket, and file descriptors end.
const MAX_ASKED: usize = 512;
/// How long a question may take in all; usual askers repeat theirs after five seconds.
const DEADLINE: Duration = Duration::from_millis(4500);
/// How often each server is tried.
const ROUNDS: usize = 2;

/// Puts questions to upstreams.
#[derive(Debug)]
pub(crate) struct QueryForwarder {
    source: UpstreamServers,
    cache: AnswerCache,
    asked: Mutex<HashMap<UpstreamQuestion, watch::Receiver<Option<ForwardOutcome>>>>,
    permits: Arc<Semaphore>,
}

/// Forgets a question when its asking ends, however it ends.
struct PendingQuestion {
    forwarder: Arc<QueryForwarder>,
    question: UpstreamQuestion,
    told: watch::Sender<Option<ForwardOutcome>>,
    _permit: OwnedSemaphorePermit,
}

impl QueryForwarder {
    /// A forwarder to these upstreams, which never asks one of `own`, our own sockets.
    pub(crate) fn new(upstreams: &Upstreams, own: &[SocketAddr], cache_bytes: usize) -> Self {
        Self {
            source: UpstreamServers::new(upstreams, own),
            cache: AnswerCache::new(cache_bytes),
            asked: Mutex::default(),
            permits: Arc::new(Semaphore::new(MAX_ASKED)),
        }
    }

    /// What is remembered of the question.
    pub(crate) fn remembered(&self, wanted: &ForwardRequest) -> Option<ForwardOutcome> {
        self.cache.get(&wanted.question, Instant::now())
    }

    /// Asks, or waits for the answer where the same is being asked already. A loop of forwarders that leads back here
    /// thus waits for itself and ends with the deadline.
    pub(crate) async fn resolve(self: &Arc<Self>, wanted: ForwardRequest) -> ForwardOutcome {
        let Some(mut told) = self.join(wanted) else { return ForwardOutcome::Failed };
        match told.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(ForwardOutcome::Failed),
            Err(_) => ForwardOutcome::Failed,
        }
    }

    fn join(self: &Arc<Self>, wanted: ForwardRequest) -> Option<watch::Receiver<Option<ForwardOutcome>>> {
        let mut asked = lock(&self.asked);
        if let Some(told) = asked.get(&wanted.question) {
            return Some(told.clone());
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let (tell, told) = watch::channel(None);
        asked.insert(wanted.question.clone(), told.clone());
        let asking =
            PendingQuestion { forwarder: Arc::clone(self), question: wanted.question, told: tell, _permit: permit };
        // A task of its own: the client that asked first may go away while others wait for the same answer.
        tokio::spawn(asking.run(wanted.servers));
        Some(told)
    }

    async fn find(&self, question: &UpstreamQuestion, servers: Option<Arc<[SocketAddr]>>) -> ForwardOutcome {
        let (servers, changed) = match servers {
            Some(servers) => (servers, false),
            None => self.source.servers(Instant::now()),
        };
        // Other upstreams may see other names, as in a company's network and outside of it.
        if changed {
            self.cache.clear();
        }
        if servers.is_empty() {
            return ForwardOutcome::NoUpstream;
        }
        match tokio::time::timeout(DEADLINE, self.ask_each(question, &servers)).await {
            Ok(Some(answer)) => {
                let answer = Arc::new(answer);
                self.cache.insert(question.clone(), Arc::clone(&answer), Instant::now());
                ForwardOutcome::Answered(answer, 0)
            }
            Ok(None) | Err(_) => ForwardOutcome::Failed,
        }
    }

    /// The server that answered last is asked first, for as long as it answers.
    async fn ask_each(&self, question: &UpstreamQuestion, servers: &[SocketAddr]) -> Option<UpstreamAnswer> {
        let good = self.source.good();
        let first = servers.iter().position(|server| Some(*server) == good).unwrap_or(0);
        for server in servers.iter().cycle().skip(first).take(servers.len() * ROUNDS) {
            match ask(*server, question).await {
                Ok(answer) => {
                    self.source.answered(*server);
                    return Some(answer);
                }
                Err(error) => tracing::debug!(%server, %error, "an upstream did not help"),
            }
        }
        None
    }
}

impl PendingQuestion {
    async fn run(self, servers: Option<Arc<[SocketAddr]>>) {
        let outcome = self.forwarder.find(&self.question, servers).await;
        self.told.send_replace(Some(outcome));
    }
}

impl Drop for PendingQuestion {
    fn drop(&mut self) {
        lock(&self.forwarder.asked).remove(&self.question);
    }
}
