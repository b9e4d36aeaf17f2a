//! How a command can fail, and the exit code that says so.

use std::{fmt, path::PathBuf, process::ExitCode};

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum CommandFailure {
    /// The daemon answered, and said no; or the command itself failed on the way. Code 1.
    Refused(String),
    /// What was asked makes no sense. Code 2, as that of the command line's own errors.
    Usage(String),
    /// No daemon answers at the socket. Code 3.
    NoDaemon {
        /// The socket that was called.
        socket: PathBuf,
        /// What happened there.
        reason: String,
    },
    /// Anything else. Code 1.
    Other(anyhow::Error),
}

impl CommandFailure {
    /// The code to exit with.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Refused(_) | Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::NoDaemon { .. } => 3,
        })
    }
}

impl fmt::Display for CommandFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(message) => write!(f, "the daemon refused: {message}"),
            Self::Usage(message) => f.write_str(message),
            Self::NoDaemon { socket, reason } => {
                write!(
                    f,
                    "no daemon answers at {}: {reason} (is it running? --socket or --data-dir",
                    socket.display()
                )?;
                f.write_str(" name another one)")
            }
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for CommandFailure {}

impl From<anyhow::Error> for CommandFailure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}
