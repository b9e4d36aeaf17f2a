//! The rules of the house that no compiler checks: which crate may know which, how large files may grow, and what
//! belongs to a complete tree.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "house/arrows.rs"]
mod arrows;
#[path = "house/circles.rs"]
mod circles;
#[path = "house/faults.rs"]
mod faults;
#[path = "house/places.rs"]
mod places;
#[path = "house/source.rs"]
mod source;
#[path = "house/tree.rs"]
mod tree;

use std::path::PathBuf;

/// The root of the workspace.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
