//! Findings: what an operator should know about a host, as `status` lists it.

use serde::{Deserialize, Serialize};

/// *Addition.* Something that was found on the host, or that could not be done there.
///
/// All members are texts, because a newer daemon may know codes and severities that this release does not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FindingStatus {
    /// The kind of finding, as `reconcile_failed`. A published word never changes its meaning.
    pub code: String,
    /// `info`, `warning` or `error`.
    pub severity: String,
    /// What it is about, as `device zl-atlas-n1-g`.
    pub subject: String,
    /// What was found: one sentence for people.
    pub text: String,
    /// What to do about it: a command, or one sentence.
    pub remedy: String,
}
