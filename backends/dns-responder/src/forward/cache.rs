use std::{sync::Arc, time::Instant};

use quick_cache::{Weighter, sync::Cache as Map};

use super::{Answer, Question};
use crate::answer::Outcome;

/// Usual size of an answer with its question, in bytes; only the first guess of the map's size follows from it.
const USUAL_WEIGHT: usize = 512;
/// What the map itself needs for an entry, about.
const OVERHEAD: usize = 128;

/// Answers of others, for as long as they may be remembered and there is room.
#[derive(Debug)]
pub(crate) struct Cache {
    map: Map<Question, Remembered, ByWeight>,
}

#[derive(Debug, Clone)]
struct Remembered {
    answer: Arc<Answer>,
    since: Instant,
}

#[derive(Debug, Clone)]
struct ByWeight;

impl Weighter<Question, Remembered> for ByWeight {
    fn weight(&self, question: &Question, remembered: &Remembered) -> u64 {
        (question.name.len() + remembered.answer.weight() + OVERHEAD) as u64
    }
}

impl Cache {
    /// Room for so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { map: Map::with_weighter(bytes / USUAL_WEIGHT, bytes as u64, ByWeight) }
    }

    pub(crate) fn get(&self, question: &Question, now: Instant) -> Option<Outcome> {
        let remembered = self.map.get(question)?;
        let age = now.saturating_duration_since(remembered.since);
        if age < remembered.answer.lifetime() {
            return Some(Outcome::Answered(remembered.answer, age.as_secs() as u32));
        }
        self.map.remove(question);
        None
    }

    pub(crate) fn insert(&self, question: Question, answer: Arc<Answer>, now: Instant) {
        if !answer.lifetime().is_zero() {
            self.map.insert(question, Remembered { answer, since: now });
        }
    }

    pub(crate) fn clear(&self) {
        self.map.clear();
    }
}
