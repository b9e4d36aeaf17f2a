use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    command::InvalidRequest, contract, ipam::BlockError, keyring::KeyringError, names::InvalidLinkName,
    store::StoreError,
};

/// Why a request was refused. The text is what the caller reads: it says what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A member of the request is not what it should be.
    #[error("invalid {member}: {reason}")]
    Invalid {
        /// What the request calls it.
        member: &'static str,
        /// What is wrong with it, quoting it.
        reason: String,
    },
    /// The request contradicts what is set up.
    #[error("{0}")]
    Conflict(String),
    /// Something has to be set up first.
    #[error("{0}")]
    Missing(String),
    /// This daemon does not do that.
    #[error("{0}")]
    Unsupported(String),
    /// Every address of a range is leased.
    #[error("{what} {range} exhausted: every address is leased; detach or release something first")]
    Exhausted {
        /// Whose range.
        what: String,
        /// The range.
        range: IpNet,
    },
    /// An attachment holds the address.
    #[error("{ip} belongs to an attached container; detach the container to release it")]
    Attached {
        /// The address.
        ip: IpAddr,
    },
    /// A service gets no block.
    #[error("ServiceSubnetRegistry: {0}")]
    Block(#[from] BlockError),
    /// A derived interface name is none.
    #[error("no interface name can be made of these names: {0}")]
    Name(#[from] InvalidLinkName),
    /// The state could not be recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A private key could not be had.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The host refused, or did not answer in time.
    #[error("{what}: {source}")]
    Host {
        /// What was being done, as `attach pid 7`.
        what: String,
        /// The backend's own words.
        source: contract::Error,
    },
}

impl From<InvalidRequest> for Error {
    fn from(InvalidRequest { member, reason }: InvalidRequest) -> Self {
        Self::Invalid { member, reason }
    }
}

impl Error {
    pub(super) fn invalid(member: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Invalid { member, reason: reason.to_string() }
    }

    /// A stable word for the kind of failure, for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid_request",
            Self::Conflict(_) => "conflict",
            Self::Missing(_) => "missing",
            Self::Unsupported(_) => "unsupported",
            Self::Exhausted { .. } => "exhausted",
            Self::Attached { .. } => "attached",
            Self::Block(_) => "no_block",
            Self::Name(_) => "invalid_name",
            Self::Store(_) => "store",
            Self::Keyring(_) => "keyring",
            Self::Host { source, .. } => source.code(),
        }
    }
}

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory cannot be made.
    #[error("could not create the state directory {path}: {source}")]
    Directory {
        /// The directory.
        path: std::path::PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// The state cannot be read.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The keys cannot be read.
    #[error(transparent)]
    Keyring(#[from] crate::keyring::KeyringError),
    /// The identities of the earlier product cannot be imported.
    #[error(transparent)]
    Legacy(#[from] crate::legacy::LegacyError),
}
