//! The program at the other end of a connection, as the operating system knows it.

use std::fmt;

/// The program at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Number of the connection, unique in this run of the daemon.
    pub connection: u64,
    /// Who it is, as the operating system says.
    pub identity: CallerIdentity,
}

/// A peer as the operating system knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallerIdentity {
    /// Credentials of a Unix socket's peer at the time it connected.
    Unix {
        /// Effective user.
        uid: u32,
        /// Effective group.
        gid: u32,
        /// Process, as seen from the daemon's PID namespace; 0 when it is outside of it.
        pid: i32,
    },
    /// The same process, as in tests.
    InProcess,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {} ({})", self.connection, self.identity)
    }
}

impl fmt::Display for CallerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { uid, gid, pid } => write!(f, "uid {uid} gid {gid} pid {pid}"),
            Self::InProcess => f.write_str("in process"),
        }
    }
}
