//! What can go wrong with a call.

use std::{io, sync::Arc, time::Duration};

/// Result of a call.
pub type ClientResult<T> = Result<T, ClientError>;

/// Why a call has no reply, or not the one it should.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No daemon answers at the endpoint.
    #[error("no daemon answers at {endpoint} (tried {attempts} times): {source}")]
    Unreachable {
        /// Where it was looked for.
        endpoint: String,
        /// How often.
        attempts: u32,
        /// The host's own words, of the last try.
        source: Arc<io::Error>,
    },
    /// There is an endpoint, but this user may not use it.
    #[error("you may not use {endpoint}: {access}")]
    NotPermitted {
        /// Where the daemon was looked for.
        endpoint: String,
        /// Who may use it, and what to do.
        access: String,
        /// The host's own words, of the last try.
        source: Arc<io::Error>,
    },
    /// The connection broke; whether the request was executed is not known.
    #[error("the connection to {endpoint} broke: {reason}")]
    Transport {
        /// The daemon's end.
        endpoint: String,
        /// How it broke.
        reason: Arc<str>,
    },
    /// The daemon said no, on a healthy connection.
    #[error("{message}")]
    Refused {
        /// Why, for people.
        message: String,
        /// What kind of failure it is, for programs; `None` from a daemon that does not say.
        code: Option<String>,
    },
    /// The daemon's reply does not go with the request, or is none that this client knows.
    #[error("unexpected reply to `{op}`: {found}")]
    UnexpectedReply {
        /// What was asked.
        op: &'static str,
        /// What came.
        found: String,
    },
    /// There was no reply in time; whether the request was executed is not known.
    #[error("no reply to `{op}` within {} ms", after.as_millis())]
    Timeout {
        /// What was asked.
        op: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The request cannot be sent.
    #[error("`{op}` cannot be sent: {reason}")]
    Unsendable {
        /// What was asked.
        op: &'static str,
        /// Why.
        reason: Arc<str>,
    },
}

impl ClientError {
    /// The daemon's word for the kind of failure, as `conflict`, if it said one. docs/protocol.md of the daemon lists
    /// them.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    /// Whether the request may have been executed without this client hearing of it. It is safe to ask again.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Transport { .. } | Self::Timeout { .. })
    }
}
