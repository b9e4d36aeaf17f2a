//! Requests as the engine carries them out: parsed, checked, and in types.

mod container;

pub use container::RequestedContainer;
