//! Answers of upstreams that are remembered.

use std::{sync::Arc, time::Instant};

use quick_cache::{Weighter, sync::Cache as Map};

use super::request::ForwardOutcome;
use crate::wire::{UpstreamAnswer, UpstreamQuestion};

/// Usual size of an answer with its question, in bytes; only the first guess of the map's size follows from it.
const USUAL_WEIGHT: usize = 512;
/// What the map itself needs for an entry, about.
const OVERHEAD: usize = 128;

/// Answers of others, for as long as they may be remembered and there is room.
#[derive(Debug)]
pub(crate) struct AnswerCache {
    map: Map<UpstreamQuestion, CachedAnswer, AnswerWeight>,
}

#[derive(Debug, Clone)]
struct CachedAnswer {
    answer: Arc<UpstreamAnswer>,
    since: Instant,
}

#[derive(Debug, Clone)]
struct AnswerWeight;

impl Weighter<UpstreamQuestion, CachedAnswer> for AnswerWeight {
    fn weight(&self, question: &UpstreamQuestion, remembered: &CachedAnswer) -> u64 {
        (question.name.len() + remembered.answer.weight() + OVERHEAD) as u64
    }
}

impl AnswerCache {
    /// Room for so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { map: Map::with_weighter(bytes / USUAL_WEIGHT, bytes as u64, AnswerWeight) }
    }

    pub(crate) fn get(&self, question: &UpstreamQuestion, now: Instant) -> Option<ForwardOutcome> {
        let remembered = self.map.get(question)?;
        let age = now.saturating_duration_since(remembered.since);
        if age < remembered.answer.lifetime() {
            return Some(ForwardOutcome::Answered(remembered.answer, age.as_secs() as u32));
        }
        // Another thread may have put in a newer answer since; that one is lost and asked for again, which is harmless.
        self.map.remove(question);
        None
    }

    pub(crate) fn insert(&self, question: UpstreamQuestion, answer: Arc<UpstreamAnswer>, now: Instant) {
        if !answer.lifetime().is_zero() {
            self.map.insert(question, CachedAnswer { answer, since: now });
        }
    }

    pub(crate) fn clear(&self) {
        self.map.clear();
    }
}
