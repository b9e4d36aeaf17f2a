//! Keeps private keys in this process's memory away from other users.

use anyhow::{Context as _, Result};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// From now on the memory of this process, which holds private keys, is in no core file, and only those who may trace
/// root's processes can read it (`PR_SET_DUMPABLE(2const)`).
pub(crate) fn keep_memory_private() -> Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("could not make the process undumpable")?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).context("could not forbid core files")
}
