use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use futures_util::{StreamExt, stream::FuturesOrdered};

use super::{reply::Reply, turn::TurnEnd};

/// Requests of one connection that are under way at the same time, at most.
const MOST: usize = 512;

/// What a request came to.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) id: u64,
    pub(super) reply: Reply,
    /// Whether the connection ends with it.
    pub(super) last: Last,
}

/// Whether an answer is the last one of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Yes,
    No,
}

/// A request as a future that owns all it needs.
pub(super) type Running = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The requests that have begun and are not answered yet. Their answers come in the order in which they began.
#[derive(Default)]
pub(super) struct UnderWay {
    running: FuturesOrdered<Running>,
    /// The turn of the last one, while it lasts.
    turn: Option<TurnEnd>,
}

impl UnderWay {
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether another request may begin.
    pub(super) fn has_room(&self) -> bool {
        self.is_empty() || (self.turn.is_none() && self.running.len() < MOST)
    }

    /// Begins a request. One that has nothing to wait for, and nobody before it, is answered at once.
    pub(super) async fn begin(&mut self, mut running: Running, turn: TurnEnd) -> Option<Answer> {
        if self.is_empty()
            && let Poll::Ready(answer) = poll_fn(|context| Poll::Ready(running.as_mut().poll(context))).await
        {
            return Some(answer);
        }
        self.running.push_back(running);
        self.turn = Some(turn);
        None
    }

    /// Waits for an answer, which is returned, or until another request may begin. May be dropped and called again.
    pub(super) async fn progress(&mut self) -> Option<Answer> {
        let Self { running, turn } = self;
        tokio::select! {
            biased;
            Some(answer) = running.next(), if !running.is_empty() => return Some(answer),
            // An error is the end of the turn, too.
            () = ended(turn) => {}
        }
        None
    }
}

/// Waits for the end of the turn, if there is one.
async fn ended(turn: &mut Option<TurnEnd>) {
    match turn {
        // An error is the end, too.
        Some(end) => drop(end.await),
        None => std::future::pending().await,
    }
    *turn = None;
}
