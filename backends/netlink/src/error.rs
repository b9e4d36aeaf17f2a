//! The error of a request to the kernel, and what it means to the backends.

use std::io;

use overlayd_core::contract;
use rustix::io::Errno;

/// Result of a request to the kernel.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A request that the kernel refused, or that never reached it.
#[derive(Debug, thiserror::Error)]
#[error("could not {action}: {source}")]
pub struct Error {
    action: String,
    #[source]
    source: io::Error,
    errno: Option<Errno>,
}

impl Error {
    /// A step that failed without an answer of the kernel.
    pub fn new(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let errno = source.raw_os_error().map(Errno::from_raw_os_error);
        Self { action: action.into(), source, errno }
    }

    /// An answer of the kernel, with its own words where it gave any (extended acknowledgement).
    pub(crate) fn refused(action: impl Into<String>, errno: i32, words: Option<String>) -> Self {
        let plain = io::Error::from_raw_os_error(errno);
        let source = match words {
            Some(words) => io::Error::new(plain.kind(), format!("{plain}: {words}")),
            None => plain,
        };
        Self { action: action.into(), source, errno: Some(Errno::from_raw_os_error(errno)) }
    }

    /// The kernel's error number.
    pub fn errno(&self) -> Option<Errno> {
        self.errno
    }

    /// Whether what was to be created is there already.
    pub fn is_present(&self) -> bool {
        self.errno == Some(Errno::EXIST)
    }

    /// Whether what was to be changed or removed does not exist.
    pub fn is_absent(&self) -> bool {
        matches!(self.errno, Some(Errno::NODEV | Errno::NOENT | Errno::SRCH | Errno::ADDRNOTAVAIL | Errno::NXIO))
    }

    /// Whether the kernel does not have what was asked for.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.errno, Some(Errno::OPNOTSUPP | Errno::INVAL))
    }

    /// Whether the caller lacks the permission.
    pub fn is_forbidden(&self) -> bool {
        self.errno == Some(Errno::PERM)
    }

    /// What was tried, as `create bridge zl-web-b`, and why it failed.
    pub fn into_parts(self) -> (String, io::Error) {
        (self.action, self.source)
    }
}

impl From<Error> for contract::Error {
    /// A failed step on the host; a denied one is [`contract::Error::Permission`].
    fn from(error: Error) -> Self {
        Self::host(error.action, error.source)
    }
}

/// Absence turned into `None`, for removals and look-ups where it is no error.
pub trait OrAbsent<T> {
    /// `Ok(None)` where the object does not exist.
    fn or_absent(self) -> Result<Option<T>>;
}

impl<T> OrAbsent<T> for Result<T> {
    fn or_absent(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
