//! How what a backend holds in this process goes to the process that replaces it.
//!
//! ```text
//!   older process                          successor
//!   prepare ── parts ────────────────────▶ inherit
//!   complete                               the backend's other calls, as at every start
//!   (or abort, when the successor is gone)
//! ```
//!
//! The core carries parts without looking into them: what a resource is, as a file descriptor, is known to the backend
//! and to the daemon's code for its operating system, which takes it from one process to the other.

use std::{any::Any, fmt};

use async_trait::async_trait;

use super::{Error, Result};

/// What a backend needs to be replaced without a gap. One that holds nothing in this process has none of it: see
/// [`super::OverlayBackend::handover`] and its like.
///
/// The default methods are those of a backend that only has to let go of something, and whose successor takes that up by
/// itself: its `prepare` returns no parts.
#[async_trait]
pub trait Handover: Send + Sync {
    /// Lets go of what two processes cannot hold at once, and returns what the successor needs. Until the successor has
    /// it, packets pass as before.
    async fn prepare(&self) -> Result<Vec<HandoverPart>>;

    /// Waits until the successor has taken over everything that was prepared, or is gone.
    async fn complete(&self) -> Result<HandoverOutcome> {
        Ok(HandoverOutcome::Done)
    }

    /// The successor is gone: what was prepared is this process's again.
    async fn abort(&self) -> Result<()> {
        Ok(())
    }

    /// Keeps the parts of an older process until the engine asks for what they belong to. Called before any other
    /// call. Parts of an unknown name or shape are [`Error::Invalid`].
    async fn inherit(&self, parts: Vec<HandoverPart>) -> Result<()> {
        match parts.first() {
            None => Ok(()),
            Some(part) => Err(Error::Invalid(format!("this backend inherits nothing, and was given `{}`", part.name))),
        }
    }
}

/// How a handover ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandoverOutcome {
    /// The successor has everything.
    Done,
    /// The successor ended first, and at least one part is still this process's.
    SuccessorGone,
}

/// One thing that goes to the successor, as a device.
#[derive(Debug)]
pub struct HandoverPart {
    /// By which the backend recognises it, as the name of an interface.
    pub name: String,
    /// What belongs to it, in the backend's order.
    pub resources: Vec<HandoverResource>,
}

/// A resource of the operating system that only its platform understands: an `OwnedFd` on Unix. Dropping it closes it.
pub struct HandoverResource(Box<dyn Any + Send>);

impl HandoverResource {
    /// Wraps `resource`.
    pub fn new<T: Any + Send>(resource: T) -> Self {
        Self(Box::new(resource))
    }

    /// The resource, if it is a `T`; otherwise itself again.
    pub fn take<T: Any + Send>(self) -> std::result::Result<T, Self> {
        self.0.downcast().map(|resource| *resource).map_err(Self)
    }
}

impl fmt::Debug for HandoverResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandoverResource")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_given_back_as_what_it_was_and_as_nothing_else() {
        let resource = HandoverResource::new(7_u32);
        let resource = resource.take::<String>().unwrap_err();
        assert_eq!(resource.take::<u32>().unwrap(), 7);
    }
}
