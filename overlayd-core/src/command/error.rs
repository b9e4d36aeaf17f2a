//! Why a request is no command.

use std::fmt::Display;

/// A member of a request is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {member}: {reason}")]
pub struct InvalidRequest {
    /// What the request calls it.
    pub member: &'static str,
    /// What is wrong with it, quoting it.
    pub reason: String,
}

impl InvalidRequest {
    /// Says what is wrong with `member`.
    pub(crate) fn new(member: &'static str, reason: impl Display) -> Self {
        Self { member, reason: reason.to_string() }
    }
}
