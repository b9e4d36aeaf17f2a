//! One request to the kernel, not sent yet.

use crate::{
    message::{MessageBuilder, NLM_F_REQUEST},
    own_changes::OwnRemoval,
};

/// One request to the kernel's routing interface, not sent yet.
#[derive(Debug)]
pub struct Request {
    pub(crate) action: String,
    pub(crate) message: MessageBuilder,
    /// What it removes, where the kernel may tell of it without saying on whose request.
    pub(crate) removal: Option<OwnRemoval>,
}

impl Request {
    /// A request of this message type; `action` says what it does in errors, as `delete link veth-42-s`.
    pub(crate) fn new(action: String, kind: u16, flags: u16) -> Self {
        Self { action, message: MessageBuilder::new(kind, NLM_F_REQUEST | flags), removal: None }
    }

    pub(crate) fn message(&mut self) -> &mut MessageBuilder {
        &mut self.message
    }

    /// Gives the request another name in errors.
    #[must_use]
    pub fn named(mut self, action: impl Into<String>) -> Self {
        self.action = action.into();
        self
    }
}
