use std::time::Duration;

/// Result of a backend call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where an error came from on the host, kept for people.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong below a trait, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This backend, or this host, cannot do what was asked.
    #[error("{what} is not supported here: {reason}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// Why it cannot be had, and what would help.
        reason: String,
    },
    /// The plan contradicts itself or the rules of the host.
    #[error("invalid plan: {0}")]
    Invalid(String),
    /// The object to act on does not exist.
    #[error("{0} does not exist")]
    NotFound(String),
    /// Something else is in the way, made by another program or by this daemon.
    #[error("{what} is taken: {by}")]
    Conflict {
        /// The name, port or range that is taken.
        what: String,
        /// By whom, as far as the host tells.
        by: String,
    },
    /// The container to attach is gone, or never was.
    #[error("the container is gone: {0}")]
    TargetGone(String),
    /// The handle now names another container than the one the record speaks of (a recycled PID).
    #[error("the handle names another container now: {0}")]
    TargetChanged(String),
    /// The target is something that must never be plugged in, such as a process in the daemon's own namespace.
    #[error("refused: {0}")]
    Refused(String),
    /// The operating system denied the step.
    #[error("could not {action}: permission denied (does the daemon have CAP_NET_ADMIN and CAP_SYS_ADMIN?)")]
    Permission {
        /// The step, as `create bridge zl-web-b`.
        action: String,
        /// The host's own words.
        #[source]
        source: Source,
    },
    /// The call did not end in time.
    #[error("{what} did not end within {} ms", after.as_millis())]
    Deadline {
        /// The call.
        what: String,
        /// The deadline that passed.
        after: Duration,
    },
    /// Any other failure of the host.
    #[error("could not {action}: {source}")]
    Host {
        /// The step, as `create bridge zl-web-b`.
        action: String,
        /// The host's own words.
        #[source]
        source: Source,
    },
}

impl Error {
    /// A failed step on the host; a denied one becomes [`Error::Permission`].
    pub fn host(action: impl Into<String>, source: std::io::Error) -> Self {
        let action = action.into();
        match source.kind() {
            std::io::ErrorKind::PermissionDenied => Self::Permission { action, source: source.into() },
            _ => Self::Host { action, source: source.into() },
        }
    }

    /// A stable word for the kind of failure, for logs, metrics and tests.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsupported { .. } => "unsupported",
            Self::Invalid(_) => "invalid_plan",
            Self::NotFound(_) => "not_found",
            Self::Conflict { .. } => "conflict",
            Self::TargetGone(_) => "target_gone",
            Self::TargetChanged(_) => "target_changed",
            Self::Refused(_) => "refused",
            Self::Permission { .. } => "permission",
            Self::Deadline { .. } => "deadline",
            Self::Host { .. } => "host",
        }
    }
}
